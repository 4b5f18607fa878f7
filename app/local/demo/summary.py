"""Summarises a demo as one JSON object for programs and a short text for people."""

from typing import Final

import msgspec
from rich.console import Console

from app.local.demo.demo_state import DemoState
from app.local.demo.latency import Percentiles
from app.local.demo.view import duration
from app.operations.dbt.build import BuildResult
from app.proof.reconcile.report import Report, summary_table

MAX_LINES: Final = 20


class DbtTotals(msgspec.Struct, frozen=True):
    """The numbers of models and tests of `dbt build`."""

    passed: int
    failed: int
    warned: int
    skipped: int
    seconds: float


class Summary(msgspec.Struct, frozen=True):
    """The last line of `bankstream demo --json`. `problems` is empty after a successful demo."""

    reconciled: bool
    source_rows: dict[str, int]
    warehouse_rows: dict[str, int]
    alerts: int
    commit_to_alert_ms: Percentiles
    commit_to_warehouse_ms: Percentiles
    commit_to_lake_ms: Percentiles
    seconds: float
    """How long the bank made transactions."""
    rate: float
    """Requested transactions per second."""
    rate_held: float | None
    """Achieved transactions per second."""
    transactions: int
    alerts_by_rule: dict[str, int]
    alerts_twice: int
    """Alerts whose id was seen before."""
    dead_letters: int
    changes_timed: int
    """The number of changes in `commit_to_warehouse_ms`."""
    deaths: dict[str, int]
    """The number of unexpected exits by process."""
    dbt: DbtTotals | None
    problems: list[str]

    @property
    def good(self) -> bool:
        """Whether the exit code is 0."""
        return self.reconciled and not self.problems


def summarise(
    board: DemoState, seconds: float, report: Report | None, build: BuildResult | None, problems: list[str]
) -> Summary:
    """Returns the summary of a demo."""
    tables = report.tables if report else {}
    found = [*problems]
    if report:
        found += report.lines()[:MAX_LINES]
    if build and not build.ok:
        found += build.lines()[: MAX_LINES + 1]
    held = board.simulated.get("rate")
    return Summary(
        reconciled=report is not None and report.reconciled,
        source_rows={name: table.source_rows for name, table in tables.items()},
        warehouse_rows={name: table.warehouse_rows for name, table in tables.items()},
        alerts=sum(board.alerts_by_rule.values()),
        commit_to_alert_ms=board.commit_to_alert.percentiles,
        commit_to_warehouse_ms=board.commit_to_warehouse.percentiles,
        commit_to_lake_ms=board.commit_to_lake.percentiles,
        seconds=round(seconds, 1),
        rate=board.rate,
        rate_held=None if held is None else round(held, 2),
        transactions=int(board.simulated.get("transactions", 0)),
        alerts_by_rule=dict(sorted(board.alerts_by_rule.items())),
        alerts_twice=board.duplicate_alerts,
        dead_letters=board.dead_letters,
        changes_timed=board.commit_to_warehouse.count,
        deaths=dict(board.died),
        dbt=DbtTotals(build.passed, build.failed, build.warned, build.skipped, build.seconds) if build else None,
        problems=found,
    )


def show(summary: Summary, board: DemoState, report: Report | None, console: Console) -> None:
    """Print the text for people."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, soft_wrap=not console.is_terminal)

    console.print()
    held = f", {summary.rate_held:g}/s achieved" if summary.rate_held is not None else ""
    line(
        f"{summary.transactions:,} transactions in {summary.seconds:.0f} s ({summary.rate:g}/s requested{held})", "bold"
    )
    line("  " + ", ".join(f"{meter.total:,} {name}" for name, meter in board.stages.items()))
    for name, histogram in (
        ("alert", board.commit_to_alert),
        ("S3 object", board.commit_to_lake),
        ("warehouse row", board.commit_to_warehouse),
    ):
        if histogram.count:
            line(
                f"  commit to {name}: p50 {duration(histogram.percentile_us(50))}, p99 {duration(histogram.percentile_us(99))}, "
                f"max {duration(histogram.max_us)} ({histogram.count:,} measured)"
            )
    rules = ", ".join(f"{count} {rule}" for rule, count in summary.alerts_by_rule.items())
    line(f"  {summary.alerts:,} alerts{f' ({rules})' if rules else ''}, {summary.alerts_twice} duplicates")
    for part, count in summary.deaths.items():
        line(f"  {part} died {count} time{'s' if count > 1 else ''} and was restarted", "yellow")
    if report:
        console.print(summary_table(report))
    if summary.dbt:
        totals = summary.dbt
        line(
            f"dbt build: {totals.passed} models and tests passed, {totals.failed} failed, {totals.warned} warned, {totals.skipped} "
            f"skipped, {totals.seconds:.0f} s"
        )
    for problem in summary.problems:
        line(f"  {problem}", "red")
    if summary.good:
        line("PostgreSQL and the warehouse hold the same rows, and every test of the models passed.", "bold green")
    elif summary.reconciled:
        line("PostgreSQL and the warehouse hold the same rows, but there are problems (above).", "bold red")
    else:
        line("PostgreSQL and the warehouse could not be verified to hold the same rows.", "bold red")
