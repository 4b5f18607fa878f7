"""The versions of a row, from the warehouse's landing tables, held against the committed state before they are believed.

The state has the current version only, the log a week. The landing tables have every open and close that there ever was, each once, in the
log's order, a second or two later; the state says which record has to be the last one. So an answer is whole, or it is 503 until it is.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import Error

from app.domain.changes import Row
from app.domain.scd2 import RowState
from app.errors import SettingsError
from app.settings import SnowflakeSettings
from app.web.problems import later
from sinks.snowflake import connect
from sinks.sql import identifier

LAG_S: Final = 2
"""About how long a record takes to the warehouse."""
MAX_RECORDS: Final = 20_000
"""Of one row: more are refused rather than read."""


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
        self._schema = f"{identifier(settings.database)}.BRONZE"
        self._threads = ThreadPoolExecutor(sessions, thread_name_prefix="history")
        self._free: list[SnowflakeConnection] = []

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        """In the log's order."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._records, table, key, value)

    async def close(self) -> None:
        """End the sessions; questions under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._free:
            connection = self._free.pop()
            with suppress(Error):
                await asyncio.to_thread(connection.close)

    def _records(self, table: str, key: str, value: int) -> list[VersionRecord]:
        statement = (
            f"SELECT record:value AS version FROM {self._schema}.{identifier(f'SCD2_{table.upper()}')} "  # noqa: S608 - our names
            f"WHERE record:value:key:{key}::number(38, 0) = %s "
            "ORDER BY record:ts::number(38, 0), record:partition::number(38, 0), record:offset::number(38, 0) "
            f"LIMIT {MAX_RECORDS + 1}"
        )
        try:
            connection = self._free.pop() if self._free else connect(self._settings)
            try:
                cursor = connection.cursor()
                cursor.execute(statement, [value])
                rows: list[Any] = cursor.fetchall()
            except BaseException:
                with suppress(Error):
                    connection.close()
                raise
        except (Error, SettingsError, OSError) as error:
            raise HistoryUnavailableError(type(error).__name__) from error
        self._free.append(connection)
        if len(rows) > MAX_RECORDS:
            raise HistoryUnavailableError(f"a row has more than {MAX_RECORDS} records")
        return [msgspec.json.decode(row[0], type=VersionRecord) for row in rows]
