"""Tests when the watcher of the capture restarts a failed connector."""

from app.operations.capture.connect import ConnectorStatus
from app.operations.capture.watcher import STEADY_S, RestartBackoff


def test_a_failed_connector_is_started_again_at_once_and_then_after_ever_longer_pauses() -> None:
    restarts = RestartBackoff(longest_s=5)
    restarted = [second for second in range(30) if restarts.failed(second)]
    assert restarted == [0, 1, 3, 7, 12, 17, 22, 27]


def test_the_pause_is_reset_only_after_the_connector_has_run_for_a_while() -> None:
    restarts = RestartBackoff(longest_s=100)
    assert [restarts.failed(second) for second in (0, 1, 3)] == [True, True, True]
    restarts.running(4)
    restarts.running(6)
    assert not restarts.failed(6.5), "it ran for two seconds: the same failure"
    restarts.running(8)
    restarts.running(8 + STEADY_S)
    assert restarts.failed(8.5 + STEADY_S), "a new failure"


def test_the_cause_of_a_failure_is_the_innermost_of_javas_trace() -> None:
    trace = "org.apache.kafka.connect.errors.ConnectException: failed\n\tat a.B.c(B.java:1)\nCaused by: x.TooLarge: 5 MB.\n\tat d.E\n"
    assert ConnectorStatus("FAILED", trace).cause == "x.TooLarge: 5 MB"
    assert ConnectorStatus("FAILED").cause == "no reason given"
