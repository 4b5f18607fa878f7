"""Tests that the live view fits the smallest terminal, uses the space of a larger one, and shows the events."""

import io

import pytest
from rich.console import Console

from app.domain.records import AlertRecord, Scd2Open, Source
from app.local.demo.demo_state import RUNNING, DemoState, WorkerState
from app.local.demo.plain_output import MAX_ALERTS, PlainOutput
from app.local.demo.summary import show, summarise
from app.local.demo.view import duration, render
from app.local.stack.events import Died

SOURCE = Source("bank.public.customers", 0, 7, 28_000_000, 700, "2026-03-01T09:00:00.000000Z")
PROCESSES = (
    "kafka",
    "postgres",
    "s3",
    "warehouse",
    "connect",
    "streams-1",
    "lake",
    "warehouse-loader",
    "capture-watch",
)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def alert(number: int, explanation: str = "12 transactions in 1m, where 10 are already unusual.") -> AlertRecord:
    return AlertRecord(
        alert_id=f"velocity_count:{number}", rule="velocity_count", severity="medium", score="0.5", customer_id=number,
        account_id=1, transaction_id=number, event_time="2026-03-01T09:00:00.000000Z",
        detected_at="2026-03-01T09:00:01.000000Z", features={}, explanation=explanation, evidence=[], source=SOURCE,
    )  # fmt: skip


def busy_board(clock: Clock) -> DemoState:
    board = DemoState(50, clock)
    board.doing = RUNNING
    for meter in board.stages.values():
        meter.total = 1_234_567
    board.simulated = {"rate": 50.04, "transactions": 60_000}
    for number in range(60):
        board.alert(alert(number, "An amount [red]far[/red] above this customer's mean. "), 38_000 + number)
    board.commit_to_warehouse.record(1_234_000)
    board.version(
        Scd2Open(
            version_id="v", key={"customer_id": 4711}, valid_from="2026-03-01T09:00:00.000000Z", reason="updated",
            attributes={"name": "Zoë Ñuñez", "city": "Bergen", "email": "zoe@example.org"}, changed=["city", "email"],
            source=SOURCE,
        ),
        {"name": "Zoë Ñuñez", "city": "München", "email": None},
    )  # fmt: skip
    board.workers = tuple(WorkerState(name, "ready", 100) for name in PROCESSES)
    return board


def screen(board: DemoState, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(render(board, height), height=height)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    return [line for line in text.split("\n") if line]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (132, 43), (200, 60)])
@pytest.mark.parametrize("dying", [False, True])
def test_the_view_fills_the_terminal_and_no_more(width: int, height: int, dying: bool) -> None:
    board = busy_board(Clock())
    if dying:
        board.death(Died("streams-1", "terminated by SIGKILL", "line\n" * 25))
    lines = screen(board, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_eighty_columns_show_every_stage_both_latencies_an_alert_and_a_change() -> None:
    text = "\n".join(screen(busy_board(Clock()), 80, 24))
    for expected in (
        "PostgreSQL commits", "Kafka changes", "Kafka derived", "S3 objects", "warehouse rows", "1,234,567", "50 transactions/s requested",
        "50.0 achieved", "38 ms", "1.23 s", "0 duplicates", "60 alerts", "velocity_count", "customer 59",
        "An amount [red]far[/red] above this customer's mean",
        "customer 4711", "München", "-> Bergen", "none", "-> zoe@example.org", "warehouse-loader", "connect",
    ):  # fmt: skip
        assert expected in text


def test_the_addresses_of_dashboard_and_lookups_are_whole_at_eighty_columns() -> None:
    board = busy_board(Clock())
    assert "dashboard" not in "\n".join(screen(board, 80, 24))
    board.dashboard, board.lookups = "http://127.0.0.1:31999", "http://127.0.0.1:16686"
    for doing in (RUNNING, "building and testing the models with dbt"):
        board.doing = doing
        shown = "\n".join(screen(board, 80, 24))
        assert "dashboard: http://127.0.0.1:31999" in shown
        assert "lookups: http://127.0.0.1:16686" in shown


@pytest.mark.parametrize(
    ("latency_us", "text"),
    [(None, "-"), (400, "0 ms"), (38_400, "38 ms"), (999_700, "1.00 s"), (8_208_000, "8.21 s"), (120e6, "120 s")],
)
def test_durations_are_short(latency_us: float | None, text: str) -> None:
    assert duration(latency_us) == text


def test_a_higher_terminal_shows_more_alerts() -> None:
    board = busy_board(Clock())
    few, many = ("\n".join(screen(board, 100, height)).count("velocity_count") for height in (24, 50))
    assert (few, many) == (3, 29)


def test_a_worker_that_died_is_named_with_the_end_of_its_log_while_it_is_news() -> None:
    clock = Clock()
    board = busy_board(clock)
    board.death(Died("streams-1", "terminated by SIGKILL", "first\nlast words of its log"))
    text = "\n".join(screen(board, 80, 24))
    assert "streams-1 died 0 s ago: terminated by SIGKILL" in text
    assert "last words of its log" in text
    clock.now += 60
    text = "\n".join(screen(board, 80, 24))
    assert "last words" not in text
    assert "streams-1 (died 1x)" in text


def test_rates_cover_the_last_seconds_and_survive_a_reset_of_the_clock() -> None:
    clock = Clock()
    board = DemoState(50, clock)
    meter = board.stages["Kafka changes"]
    for second in range(20):
        meter.total += 10 if second < 10 else 100
        board.sample()
        clock.now += 1
        if second == 15:
            board.restart_clock()
    assert meter.per_second == pytest.approx(100)


def test_repeated_alerts_are_counted_separately() -> None:
    board = DemoState(50)
    assert board.alert(alert(1), 10)
    assert not board.alert(alert(1), 10)
    assert (len(board.alerts), board.duplicate_alerts, board.commit_to_alert.count) == (1, 1, 1)


def test_plain_lines_name_a_few_alerts_count_the_rest_and_come_in_intervals() -> None:
    clock = Clock()
    board = busy_board(clock)
    console = Console(file=io.StringIO(), width=80)
    lines = PlainOutput(board, console)
    for number in range(MAX_ALERTS + 3):
        lines.alert(alert(number))
    lines.tick()
    clock.now += 6
    lines.tick()
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert text.count("alert velocity_count") == MAX_ALERTS
    assert "3 more alerts" in text
    assert text.count("Kafka changes") == 1


def test_a_summary_without_a_comparison_is_no_success_and_says_why() -> None:
    board = busy_board(Clock())
    summary = summarise(board, 60, None, None, ["the connector stands still"])
    assert not summary.reconciled
    assert not summary.good
    console = Console(file=io.StringIO(), width=80)
    show(summary, board, None, console)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert "the connector stands still" in text
    assert "could not be verified to hold the same rows" in text
