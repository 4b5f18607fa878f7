"""Tests the dashboard without a warehouse: its cache, its messages about failures, and its charts."""

import doctest
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from app.cli.console import StackConsole
from app.local.demo import run
from app.operations.provision.warehouse import landing_tables
from ops.dashboard import charts, components, data
from ops.dashboard.data import versions
from ops.dashboard.query_cache import QueryCache
from ops.dashboard.records import Live, Slice
from sinks.base import SinkUnavailableError
from sinks.reading import MissingObjectError, StatementRefusedError
from tests.support.catalogue import CATALOGUE

BEGAN = datetime(2026, 3, 1, 9, 0)  # noqa: DTZ001 - naive UTC, as the warehouse gives it


class Warehouse:
    """A query with scripted results, and the clocks that the cache reads."""

    def __init__(self) -> None:
        self.asked, self.seconds, self.takes_s = 0, 0.0, 0.0
        self.answer: int | Exception = 1
        self.cache = QueryCache(Any, clock=self.now, ticks=lambda: self.seconds)  # type: ignore[arg-type]

    def now(self) -> datetime:
        return datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def question(self, _session: object, _now: datetime) -> int:
        self.asked += 1
        self.seconds += self.takes_s
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def ask(self, every_s: float = 4) -> Any:
        return self.cache.get(self.question, every_s=every_s)


def test_a_query_runs_once_for_all_users_within_its_cache_time() -> None:
    warehouse = Warehouse()
    for second in range(9):
        warehouse.seconds = second
        assert warehouse.ask().value == 1
    assert warehouse.asked == 3


def test_a_slow_query_runs_for_at_most_a_tenth_of_the_time() -> None:
    warehouse = Warehouse()
    warehouse.takes_s = 2
    warehouse.ask()
    warehouse.seconds = 21
    assert warehouse.ask().value == 1
    assert warehouse.asked == 1
    warehouse.seconds = 22
    warehouse.ask()
    assert warehouse.asked == 2


def test_a_failed_query_is_repeated_after_the_usual_time_however_slow_it_was() -> None:
    warehouse = Warehouse()
    warehouse.takes_s, warehouse.answer = 5, SinkUnavailableError("gone")
    warehouse.ask()
    warehouse.seconds, warehouse.answer = 9, 2
    assert warehouse.ask().value == 2


def test_during_an_outage_the_last_result_stays_with_its_age_and_the_first_error() -> None:
    warehouse = Warehouse()
    first = warehouse.ask()
    warehouse.answer = SinkUnavailableError("gone")
    for second in (5, 10):
        warehouse.seconds = second
        away = warehouse.ask()
        assert (away.fresh, away.value, away.read_at, away.problem) == (False, 1, first.read_at, "gone")
        assert away.since == datetime(2026, 3, 1, 9, 0, 5, tzinfo=UTC)
    warehouse.seconds, warehouse.answer = 15, 2
    back = warehouse.ask()
    assert (back.fresh, back.value, back.since) == (True, 2, None)


def test_old_results_of_a_dropped_table_are_not_shown() -> None:
    warehouse = Warehouse()
    warehouse.ask()
    warehouse.seconds, warehouse.answer = 5, MissingObjectError("no table", 2003)
    found = warehouse.ask()
    assert (found.fresh, found.not_built, found.value) == (False, True, None)


def test_a_refused_query_is_repeated_and_does_not_mark_the_warehouse_as_unavailable() -> None:
    warehouse = Warehouse()
    warehouse.answer = StatementRefusedError("no: Ada", 904)
    refused = warehouse.ask()
    assert (refused.since, refused.problem) == (warehouse.now(), "the warehouse rejects the query (error 904)")
    warehouse.seconds, warehouse.answer = 5, 3
    assert warehouse.ask().value == 3


def live(*slices: Slice) -> Live:
    return Live(10, BEGAN, BEGAN + timedelta(seconds=45), slices, ())


def test_a_chart_has_only_whole_intervals_zeros_in_between_and_none_after_the_landed_data() -> None:
    found = live(
        Slice(BEGAN, "EUR", "credit", 2, Decimal("1.10")),
        Slice(BEGAN, "USD", "credit", 1, Decimal("5.00")),
        Slice(BEGAN + timedelta(seconds=20), "EUR", "debit", 1, Decimal("0.10")),
        Slice(BEGAN + timedelta(seconds=40), "EUR", "debit", 9, Decimal(9)),
    )
    lines = charts.slices(found, lambda one: Decimal(one.count))
    assert [(int(credits_), int(debits)) for _, credits_, debits in lines] == [(3, 0), (0, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize("draw", [charts.volume, lambda found: charts.amounts(found, "EUR")])
def test_times_reach_the_browser_with_their_zone(draw: Callable[[Live], Any]) -> None:
    text = draw(live(Slice(BEGAN, "EUR", "credit", 2, Decimal("1.10")))).to_json()
    assert '"2026-03-01T09:00:00+00:00"' in text
    assert '"utc": true' in text


def test_amounts_in_the_labels_of_bars_are_exact() -> None:
    text = charts.amounts(live(Slice(BEGAN, "EUR", "debit", 1, Decimal("9007199254740993.01"))), "EUR").to_json()
    assert "9,007,199,254,740,993.01 EUR" in text


def test_versions_are_assembled_from_opens_and_closes_including_replays() -> None:
    def opened(version: str, valid_from: str, reason: str, **attributes: object) -> dict[str, Any]:
        return {
            "op": "open", "version_id": version, "valid_from": valid_from, "reason": reason, "attributes": attributes,
            "changed": sorted(attributes),
        }  # fmt: skip

    first = opened("a", "2026-03-01T09:00:00Z", "created", city="Kiel")
    close = {"op": "close", "version_id": "a", "valid_to": "2026-03-02T09:00:00Z", "reason": "superseded"}
    second = opened("b", "2026-03-02T09:00:00Z", "updated", city=None)
    newest, oldest = versions([first, close, second, first, second])
    assert (newest.changed, newest.valid_to) == ((("city", "Kiel", "none"),), None)
    assert (oldest.changed, oldest.close_reason) == ((), "superseded")


@pytest.mark.parametrize(
    ("wanted", "missing", "events"),
    [(True, None, ["started", "shown", "stopped"]), (False, None, ["shown"]), (True, "no Streamlit", ["shown"])],
)
def test_the_demo_starts_a_dashboard_unless_it_is_disabled_or_not_installed(
    wanted: bool,
    missing: str | None,
    events: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    class Shown:
        def __init__(self, _environment: object, _log: object) -> None: ...

        @staticmethod
        def missing() -> str | None:
            return missing

        def start(self) -> str:
            seen.append("started")
            return "http://127.0.0.1:31999"

        def stop(self) -> None:
            seen.append("stopped")

    monkeypatch.setattr(run, "Dashboard", Shown)
    options = run.Options(seconds=None, rate=50, workers=None, seed=None, dashboard=wanted, json=True)
    demo = run.Demo(options, StackConsole)
    stack: Any = SimpleNamespace(home=SimpleNamespace(log=Path))
    with demo._dashboard(stack, {}):
        seen.append("shown")
    assert seen == events
    told = capsys.readouterr().err
    assert ("dashboard: http://127.0.0.1:31999" in told) == ("started" in events)
    assert (missing or "") in told


class Recording:
    """A session that records every statement. It returns one row where a query needs one to continue."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        names = {name: f"BANK.{name.upper()}" for name in ("bronze", "silver", "gold")}
        values = dict.fromkeys(parameters or {}, "NULL")
        self.statements.append(sql.format_map(names) % values if parameters else sql.format_map(names))
        if "max(written_ms)" in sql:
            return [(BEGAN, "EUR", "debit", 1, Decimal(1), True, 1_772_355_600_000)]
        if "key:customer_id" in sql:
            return [(json.dumps({"op": "close", "version_id": "a"}),)]
        if "alert:severity" in sql:
            return [("rule", "low", 1, 1)]
        return [(None,)] if "max(committed_at)" in sql else []


def test_every_statement_is_a_limited_query_in_snowflakes_own_dialect() -> None:
    session: Any = Recording()
    now = BEGAN.replace(tzinfo=UTC)
    data.live(session, now, 15)
    data.alerts(session, now, 24)
    data.customer(session, now, 42)
    data.health(session, now, landing_tables(CATALOGUE))
    data.gold_reaches(session, now)
    data.currencies(session, now)
    for dimension in data.DIMENSIONS:
        data.history(session, now, dimension, "EUR", BEGAN.date(), BEGAN.date())
    assert len(session.statements) >= 15
    for statement in session.statements:
        [parsed] = sqlglot.parse(statement, dialect="snowflake", error_level=sqlglot.ErrorLevel.RAISE)
        assert isinstance(parsed, exp.Query), statement
        few = "max(committed_at)" in statement or "as newest_ms from" in statement  # one row, or one for each topic
        assert parsed.args.get("limit") or few, statement
        assert {table.db for table in parsed.find_all(exp.Table) if table.db} <= {"BRONZE", "GOLD"}


def test_the_examples_in_the_docstrings_run() -> None:
    found = doctest.testmod(components)
    assert found.attempted > 3
    assert found.failed == 0
