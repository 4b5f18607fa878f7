"""Tests that the exits of workers are recorded next to their state, and reported by the next worker."""

import logging
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from app.engine.exit_history import KILLED, KILLED_CODE, ExitHistory


def told(code: str) -> float:
    return REGISTRY.get_sample_value("bankstream_exits_total", {"code": code}) or 0.0


def last() -> float | None:
    return REGISTRY.get_sample_value("bankstream_last_exit_code")


def run(path: Path, code: int | None, reason: str = "") -> None:
    """Runs a worker from start to exit. None: it is killed."""
    history = ExitHistory(path)
    history.begin()
    if code is not None:
        history.ended(code, reason)


def test_the_next_worker_reports_the_exits_of_the_previous_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0.exits.json"
    run(path, 71, "by-account/3: taken over")
    run(path, 71, "by-account/1: taken over")
    run(path, None)
    before = {code: told(code) for code in ("0", "71", KILLED)}
    ExitHistory(path).begin()
    assert last() == KILLED_CODE
    assert {code: told(code) - before[code] for code in before} == {"0": 0, "71": 2, KILLED: 1}
    assert "worker of this instance ended with code 71: by-account/1: taken over" in caplog.text


def test_a_clean_stop_is_counted_and_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "0.exits.json"
    with caplog.at_level(logging.INFO):
        run(path, 0, "it was told to stop")
        before = told("0")
        ExitHistory(path).begin()
    assert (last(), told("0") - before) == (0, 1)
    assert caplog.text == ""


def test_a_damaged_history_file_is_discarded_and_the_worker_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0.exits.json"
    path.write_bytes(b'{"counts": {"71"')
    run(path, 70, "a defect")
    assert "cannot be read, a new one is begun" in caplog.text
    before = told("70")
    ExitHistory(path).begin()
    assert told("70") - before == 1


def test_an_unwritable_history_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path / "gone" / "0.exits.json", 71, "taken over")
    assert "cannot be written" in caplog.text
