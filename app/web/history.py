"""The versions of a row, from the warehouse's landing tables, held against the committed state before they are believed.

The state has the current version only, the log a week. The landing tables have every open and close that there ever was, each once, in the
log's order, a second or two later; the state says which record has to be the last one. So an answer is whole, or it is 503 until it is.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from app.config.settings import SnowflakeSettings
from app.domain.changes import Row
from app.domain.scd2 import RowState
from app.web.problems import later

if TYPE_CHECKING:
    from app.web.landing_reader import LandingReader

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


class HistoryUnavailableError(Exception):
    """The warehouse does not answer."""


class Landed(Protocol):
    """The open and close records of a row."""

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        """In the log's order. HistoryUnavailableError."""
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


async def past(landed: Landed, table: str, key: str, value: int, state: RowState) -> list[PastVersion]:
    """All versions up to the one that the state knows. ProblemError 503 while the warehouse does not have that yet, or does not answer."""
    if not state.version_id:
        return []
    try:
        found = versions(await landed.records(table, key, value))
    except HistoryUnavailableError as error:
        raise later("The warehouse, which has the versions, does not answer. Ask again.", 5) from error
    last = next((one for one in reversed(found) if one.opened.version_id == state.version_id), None)
    if last is None or (not state.alive and last.closed is None):
        raise later("The row's last version has not reached the warehouse yet. Ask again.", LAG_S)
    if any(one.closed is None and one is not last for one in found):
        raise later("A version that has ended has not been closed in the warehouse yet. Ask again.", LAG_S)
    return found


class Warehouse:
    """Reads the landing tables. A few sessions, one a thread; a session that failed is opened anew."""

    def __init__(self, settings: SnowflakeSettings, sessions: int) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(sessions, thread_name_prefix="history")
        self._reader: LandingReader | None = None
        self._making = Lock()

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        """In the log's order."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._records, table, key, value)

    async def close(self) -> None:
        """End the sessions; questions under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._reader is not None:
            await asyncio.to_thread(self._reader.close)

    def _records(self, table: str, key: str, value: int) -> list[VersionRecord]:
        with self._making:
            if self._reader is None:
                # The warehouse's client takes seconds to import. They are not the stream's: a worker that died is back without it.
                from app.web.landing_reader import LandingReader  # noqa: PLC0415

                self._reader = LandingReader(self._settings)
        return [msgspec.json.decode(record, type=VersionRecord) for record in self._reader.read(table, key, value)]
