"""The versions of a row, from the warehouse's landing tables, held against the committed state before they are believed.

The state has the current version only, the log a week. The landing tables have every open and close that there ever was, each once, in the
log's order, a second or two later; the state says which record has to be the last one. So an answer is whole, or it is 503 until it is.
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
"""About how long a record takes to the warehouse."""


class VersionRecord(msgspec.Struct, frozen=True):
    """An open or close as it landed. The fields of both."""

    op: str
    version_id: str
    valid_from: str
    reason: str
    valid_to: str | None = None
    attributes: Row = {}
    changed: list[str] = []


class PastVersion(msgspec.Struct, frozen=True):
    """A version, put together from its open and its close."""

    opened: VersionRecord
    closed: VersionRecord | None

    @property
    def valid_from(self) -> str:
        """When it began to hold."""
        return self.opened.valid_from

    @property
    def valid_to(self) -> str | None:
        """When it ceased to."""
        return None if self.closed is None else self.closed.valid_to

    def holds(self, moment: str) -> bool:
        """Whether it is the version as of the moment, which is written like all our times: they sort as text."""
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


class TooManyRecordsError(BankstreamError):
    """A row has more open and close records than are read."""


class VersionSource(Protocol):
    """The open and close records of a row."""

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        """In the log's order. TooManyRecordsError, SinkError when the warehouse cannot be asked, SettingsError without credentials."""
        ...

    async def close(self) -> None:
        """End the sessions."""
        ...


def versions(records: Iterable[VersionRecord]) -> list[PastVersion]:
    """Oldest first. Of equal times, in the log's order."""
    opens: dict[str, VersionRecord] = {}
    closes: dict[str, VersionRecord] = {}
    for record in records:
        (opens if record.op == "open" else closes)[record.version_id] = record
    found = [PastVersion(opened, closes.get(version_id)) for version_id, opened in opens.items()]
    return sorted(found, key=lambda version: version.valid_from)  # stable


async def version_history(
    landed: VersionSource, table: str, key: str, value: int, state: RowState
) -> list[PastVersion]:
    """All versions up to the one that the state knows.

    ProblemError 503 while the warehouse does not have that yet, or does not answer, and for a row with more records than are read.
    """
    if not state.version_id:
        return []
    try:
        found = versions(await landed.records(table, key, value))
    except TooManyRecordsError as error:
        raise unavailable("The row has more versions than are read.", 5) from error
    except (SinkError, SettingsError) as error:
        raise unavailable("The warehouse, which has the versions, does not answer. Ask again.", 5) from error
    last = next((one for one in reversed(found) if one.opened.version_id == state.version_id), None)
    if last is None or (not state.alive and last.closed is None):
        raise unavailable("The row's last version has not reached the warehouse yet. Ask again.", LAG_S)
    if any(one.closed is None and one is not last for one in found):
        raise unavailable("A version that has ended has not been closed in the warehouse yet. Ask again.", LAG_S)
    return found
