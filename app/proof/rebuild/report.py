"""Defines the report of a rebuild and prints it as a table."""

from typing import Final, Literal

import msgspec
from rich.markup import escape
from rich.table import Table

from app.errors import BankstreamError

Verdict = Literal["equal", "different", "incomplete", "not compared"]
"""incomplete: something in the lake could not be loaded."""
MAX_DIFFERENCES: Final = 100


class RebuildError(BankstreamError):
    """The rebuild was rejected, or could not continue."""


class TableReport(msgspec.Struct, frozen=True):
    """The result for one landing table. The hashes cover every row, in the order of topic, partition and offset."""

    rows: int
    sha256: str
    first_rows: int | None = None
    first_sha256: str | None = None
    """Row count and hash in the first warehouse, through the same offsets."""

    @property
    def equal(self) -> bool:
        """Whether both hold the same rows."""
        return (self.rows, self.sha256) == (self.first_rows, self.first_sha256)


class Report(msgspec.Struct, frozen=True):
    """The report that `bankstream rebuild --json` prints."""

    database: str
    lake: str
    compared_with: str | None
    verdict: Verdict
    tables: dict[str, TableReport]
    objects: int
    """The number of objects that this run loaded. An earlier interrupted run may have loaded others."""
    resumed: bool
    broken: dict[str, str]
    """The chains that could not be loaded to their end, each with the reason."""
    differences: tuple[str, ...]
    not_compared: tuple[str, ...]
    """The chains that the first warehouse has not loaded as far. Their records after its end could not be compared."""
    seconds: float


def summary_table(report: Report) -> Table:
    """Returns a table of rows and hashes by landing table."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("landing table", "rows", "in the first", "content"):
        table.add_column(column, justify="right" if column in ("rows", "in the first") else "left")
    for name, found in report.tables.items():
        first = "" if found.first_rows is None else f"{found.first_rows:,}"
        if found.first_rows is None:
            content = found.sha256[:12]
        else:
            content = f"[green]equal[/] {found.sha256[:12]}" if found.equal else "[bold red]different[/]"
        table.add_row(escape(name), f"{found.rows:,}", first, content)
    return table
