"""The table of faults. Each module listed here has rows in ROWS."""

from importlib import import_module

from tests.faults.fault import Fault

MODULES = tuple(
    f"tests.faults.rows.{name}"
    for name in (
        "processes",
        "crash_points",
        "broker",
        "network",
        "sinks",
        "state",
        "log",
        "slow",
        "outage",
        "shape",
        "continuity",
    )
)


def table() -> dict[str, Fault]:
    """All rows by name, in the order of the matrix."""
    rows = [row for module in MODULES for row in import_module(module).ROWS]
    found = {row.name: row for row in sorted(rows, key=lambda row: row.number)}
    if len(found) != len(rows):
        raise ValueError("two rows of the table of faults have the same name")
    return found
