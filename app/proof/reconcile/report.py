"""Defines the report of a reconciliation, and prints it as a table and a line for each key that differs."""

from typing import Final, Literal

import msgspec
from rich.markup import escape
from rich.table import Table

from app.errors import BankstreamError

MAX_DIFFERENCES: Final = 100
"""The number of keys that a report names for each table; further ones are counted."""


class ReconcileError(BankstreamError):
    """The comparison could not be made: a part does not answer, or changes do not arrive in the warehouse."""


Key = int | str | tuple[int | str, ...]
"""A primary key: the integer or the text of a single column; for several columns, their values in the declared order."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key whose row differs between the sides. It has column names only: readers of a report may not be allowed to see the values."""

    key: Key
    kind: Literal["missing", "extra", "different"]
    """missing: the warehouse lacks the row; extra: the source has no such row."""
    columns: tuple[str, ...] = ()
    """The columns that differ."""


class Sums(msgspec.Struct, frozen=True):
    """The exact sum of a money column on both sides, as decimal strings."""

    source: str
    warehouse: str


class TableReport(msgspec.Struct, frozen=True):
    """The result for one table. The hashes are SHA-256 over all rows in key order, in canonical text."""

    source_rows: int
    warehouse_rows: int
    source_hash: str
    warehouse_hash: str
    sums: dict[str, Sums]
    differences: tuple[Difference, ...]
    """The first MAX_DIFFERENCES, in the order of the keys."""
    more_differences: int = 0
    """The number of further differences."""

    @property
    def equal(self) -> bool:
        """Whether both sides have the same rows."""
        return self.source_hash == self.warehouse_hash and not self.differences


class SnapshotPosition(msgspec.Struct, frozen=True):
    """The instant of the comparison: a snapshot of PostgreSQL, and the last offsets in Kafka that can belong to it."""

    snapshot: str
    """pg_current_snapshot(): xmin:xmax:transactions in progress."""
    taken_at: str
    lsn: str
    offsets: dict[str, int]
    """By topic/partition, the offset that the warehouse had to reach; empty if all landed records were compared."""


class Report(msgspec.Struct, frozen=True):
    """The report that `bankstream reconcile --json` prints."""

    reconciled: bool
    tables: dict[str, TableReport]
    """customers, accounts and transactions, then the other declared tables in the order of their declaration."""
    position: SnapshotPosition
    seconds: float

    def lines(self) -> list[str]:
        """Returns a line for each key that differs."""
        found = []
        for name, table in self.tables.items():
            for difference in table.differences:
                what = {
                    "missing": "is missing in the warehouse",
                    "extra": "is in the warehouse and not in the source",
                    "different": f"differs in {', '.join(difference.columns)}",
                }[difference.kind]
                key = msgspec.json.encode(difference.key).decode()  # a text may contain any character
                found.append(f"{name} {key} {what}")
            if table.more_differences:
                found.append(f"{name}: {table.more_differences:,} more keys differ")
        return found


def summary_table(report: Report) -> Table:
    """Returns a table of counts, sums and verdicts, at most 80 columns wide."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("table", "source rows", "warehouse rows", "sum", "content"):
        table.add_column(column, justify="right" if "rows" in column or column == "sum" else "left")
    for name, found in report.tables.items():
        sums = "\n".join(
            both.source if both.source == both.warehouse else f"{both.source} / {both.warehouse}"
            for both in found.sums.values()
        )
        verdict = f"[green]equal[/] {found.source_hash[:8]}" if found.equal else "[bold red]different[/]"
        table.add_row(escape(name), f"{found.source_rows:,}", f"{found.warehouse_rows:,}", sums, verdict)
    return table
