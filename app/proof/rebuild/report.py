"""What a rebuild came to."""

from typing import Final, Literal

import msgspec
from rich.markup import escape
from rich.table import Table

from app.errors import BankstreamError

Verdict = Literal["equal", "different", "incomplete", "not compared"]
"""incomplete: something in the lake could not be loaded."""
MAX_DIFFERENCES: Final = 100


class RebuildError(BankstreamError):
    """The rebuild was refused, or could not go on."""


class TableReport(msgspec.Struct, frozen=True):
    """One landing table. The hashes are over every row, in the order of topic, partition and offset."""

    rows: int
    sha256: str
    first_rows: int | None = None
    first_sha256: str | None = None
    """Of the warehouse that it was compared with, through the same offsets."""

    @property
    def equal(self) -> bool:
        """Whether both hold the same rows."""
        return (self.rows, self.sha256) == (self.first_rows, self.first_sha256)


class Report(msgspec.Struct, frozen=True):
    """What `bankstream rebuild --json` prints."""

    database: str
    lake: str
    compared_with: str | None
    verdict: Verdict
    tables: dict[str, TableReport]
    objects: int
    """Loaded by this run; an earlier run that was ended may have loaded others."""
    resumed: bool
    broken: dict[str, str]
    """Chains that could not be loaded to their end, and why."""
    differences: tuple[str, ...]
    not_compared: tuple[str, ...]
    """Chains that the first warehouse has not loaded as far: what is behind its end could not be compared."""
    seconds: float


def summary_table(report: Report) -> Table:
    """Rows and hashes by landing table."""
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
