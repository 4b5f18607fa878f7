"""Builds the version history of a row from the warehouse's landing tables, and checks it against the committed state.

The state has only the current version, and the log only a week. The landing tables have every open and close record exactly once, in the
log's order, after a second or two. The state shows which record must be the last one. An answer is therefore complete, or 503 until it is.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from app.domain.changes import Row
from app.domain.scd2 import RowState
from app.errors import BankstreamError, SettingsError
from app.web.problems import unavailable
from sinks.base import SinkError

LAG_S: Final = 2
"""The usual time in which a record reaches the warehouse."""


class VersionRecord(msgspec.Struct, frozen=True):
    """An open or close record in a landing table, with the fields of both."""

    op: str
    version_id: str
    valid_from: str
    reason: str
    valid_to: str | None = None
    attributes: Row = {}
    changed: list[str] = []


class PastVersion(msgspec.Struct, frozen=True):
    """A version, built from its open and close records."""

    opened: VersionRecord
    closed: VersionRecord | None

    @property
    def valid_from(self) -> str:
        """The beginning of its validity."""
        return self.opened.valid_from

    @property
    def valid_to(self) -> str | None:
        """The end of its validity; None for the current version."""
        return None if self.closed is None else self.closed.valid_to

    def holds(self, moment: str) -> bool:
        """Returns whether the version is valid at a moment. The moment has the records' time format, which sorts as text."""
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


class TooManyRecordsError(BankstreamError):
    """A row has more open and close records than the limit."""


class VersionSource(Protocol):
    """Reads the open and close records of a row."""

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        """Returns the records in the log's order.

        Raises TooManyRecordsError, SinkError if the warehouse cannot be read, or SettingsError without credentials.
        """
        ...

    async def close(self) -> None:
        """Close the sessions."""
        ...


def versions(records: Iterable[VersionRecord]) -> list[PastVersion]:
    """Returns the versions, oldest first. Versions with equal times are in the log's order."""
    opens: dict[str, VersionRecord] = {}
    closes: dict[str, VersionRecord] = {}
    for record in records:
        (opens if record.op == "open" else closes)[record.version_id] = record
    found = [PastVersion(opened, closes.get(version_id)) for version_id, opened in opens.items()]
    return sorted(found, key=lambda version: version.valid_from)  # stable


async def version_history(
    landed: VersionSource, table: str, key: str, value: int, state: RowState
) -> list[PastVersion]:
    """Returns all versions up to the latest one in the state.

    Raises ProblemError 503 if the warehouse does not have that one yet or does not answer, or if the row has too many records.
    """
    if not state.version_id:
        return []
    try:
        found = versions(await landed.records(table, key, value))
    except TooManyRecordsError as error:
        raise unavailable("The row has more versions than the limit.", 5) from error
    except (SinkError, SettingsError) as error:
        raise unavailable("The warehouse, which stores the versions, does not answer. Try again.", 5) from error
    last = next((one for one in reversed(found) if one.opened.version_id == state.version_id), None)
    if last is None or (not state.alive and last.closed is None):
        raise unavailable("The row's latest version has not reached the warehouse yet. Try again.", LAG_S)
    if any(one.closed is None and one is not last for one in found):
        raise unavailable("The close of an earlier version has not reached the warehouse yet. Try again.", LAG_S)
    return found
