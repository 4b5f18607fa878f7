"""Writes docs/FAULTS.md from the results of runs. No figure in its tables is written by hand."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from tests.faults import random_mode, results
from tests.faults.fault import Fault
from tests.faults.results import FaultResult
from tests.support.paths import PROJECT

PAGE: Final = PROJECT / "docs" / "FAULTS.md"
HEAD: Final = (Path(__file__).parent / "report_head.md").read_text(encoding="utf-8")


def write(paths: Iterable[Path], rows: Mapping[str, Fault]) -> None:
    """Writes the page. If several results have a row, the last one counts."""
    outcomes = [outcome for path in paths for outcome in results.read(path).rows]
    PAGE.write_text(page(outcomes, rows), encoding="utf-8")


def page(outcomes: Iterable[FaultResult], rows: Mapping[str, Fault]) -> str:
    """The text of the page."""
    listed = list(outcomes)
    last = {outcome.name: outcome for outcome in listed if outcome.name != random_mode.NAME}
    lines = [
        HEAD,
        "## The table",
        "",
        "| # | fault | fired | events | lost | duplicated | wrong | recovery, s | landed, s |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(row, last.get(name)) for name, row in rows.items()),
        "",
        "## Random runs",
        "",
        "| seed | minutes | kill -9 | faults | events | lost | duplicated | wrong | recovery, s | drained in, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_random(outcome) for outcome in listed if outcome.name == random_mode.NAME),
        "",
        *(f"Seed {o.seed}: {', '.join(o.proofs)}." for o in listed if o.name == random_mode.NAME),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _row(row: Fault, outcome: FaultResult | None) -> str:
    head = f"| {row.number} | **{row.name}**: {row.does}. *{row.holds}* |"
    if outcome is None:
        return f"{head} | | | | | | |"
    held = "" if outcome.good else " **did not hold**"
    if outcome.stopped:
        return f"{head} {outcome.fired}{held} | {outcome.events:,} | stopped, as required | | | | |"
    return (
        f"{head} {outcome.fired}{held} | {outcome.events:,} | {outcome.lost} | {outcome.doubled} | {outcome.wrong} | "
        f"{_spread(outcome.recovery_s)} | {_spread(outcome.landed_s)} |"
    )


def _random(outcome: FaultResult) -> str:
    held = "" if outcome.good else " **did not hold**"
    return (
        f"| {outcome.seed}{held} | {outcome.minutes:g} | {outcome.kills} | {outcome.fired} | {outcome.events:,} | {outcome.lost} | "
        f"{outcome.doubled} | {outcome.wrong} | {_spread(outcome.recovery_s)} | {outcome.drain_s:.0f} |"
    )


def _spread(found: list[float]) -> str:
    return f"{median(found):.1f}, {max(found):.1f}" if found else ""
