"""Reads the open and close records of a row from the warehouse's landing tables, for the lookup API."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from app.config.settings import SnowflakeSettings
from app.config.topics import SCD2_ACCOUNTS, SCD2_CUSTOMERS
from app.web.version_history import TooManyRecordsError, VersionRecord
from sinks.reading import WarehouseReader
from sinks.relations import relation
from sinks.sessions import open_reader

LANDING: Final = {"customers": SCD2_CUSTOMERS.landing, "accounts": SCD2_ACCOUNTS.landing}
MAX_RECORDS: Final = 20_000
"""Maximum of records of one row. A row with more is refused."""


class LandingReader:
    """Reads over at most `sessions` sessions in parallel. A failed session is closed and replaced. Implements `VersionSource`."""

    def __init__(self, settings: SnowflakeSettings, sessions: int) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(sessions, thread_name_prefix="history")
        self._free: list[WarehouseReader] = []

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        """Returns the records in the log's order."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._records, table, key, value)

    async def close(self) -> None:
        """Close the idle sessions, without waiting for running queries."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._close)

    def _records(self, table: str, key: str, value: int) -> list[VersionRecord]:
        landing = relation(self._settings.database, str(LANDING[table]))
        statement = (
            f"SELECT record:value AS version FROM {landing} "  # noqa: S608 - the names are constants
            f"WHERE record:value:key:{key}::number(38, 0) = %s "
            "ORDER BY record:ts::number(38, 0), record:partition::number(38, 0), record:offset::number(38, 0) "
            f"LIMIT {MAX_RECORDS + 1}"
        )
        try:
            reader = self._free.pop()
        except IndexError:
            reader = open_reader(self._settings)
        try:
            rows = reader.rows(statement, [value])
        except BaseException:
            reader.close()
            raise
        self._free.append(reader)
        if len(rows) > MAX_RECORDS:
            raise TooManyRecordsError(f"{table} {value} has more than {MAX_RECORDS:,} open and close records")
        return [msgspec.json.decode(version, type=VersionRecord) for (version,) in rows]

    def _close(self) -> None:
        while self._free:
            self._free.pop().close()
