"""Implements the warehouse on Snowflake: COPY INTO the landing tables and the move of the ledger rows are one transaction.

The ledger rows are moved first, with compare-and-set. The transaction that moves them holds their locks, so a second loader with the same
objects fails before it copies anything. COPY's load history is not relied on; object names are never reused, so it never contradicts the
ledger. The connector is synchronous; one thread serves one session.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from snowflake.connector import SnowflakeConnection, errors

from app.config.settings import SnowflakeSettings
from sinks import chain
from sinks.base import (
    ChainKey,
    LakeObject,
    LedgerConflictError,
    LedgerMove,
    LedgerRow,
    LoadStep,
    SinkRefusedError,
    SinkUnavailableError,
)
from sinks.relations import LEDGER, ledger_query, ledger_rows, relation
from sinks.snowflake_session import connect, is_refusal
from sinks.sql import literal

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CONFLICTS: Final = frozenset({625, 100072, 604, 606})
"""Error numbers of a statement aborted by another transaction, a duplicate key, and lock waits that were cancelled or timed out."""


class SnowflakeWarehouse:
    """A warehouse over one session. Connects at the first call, and reconnects after a failure."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        self._settings = settings
        self._ledger = relation(settings.database, LEDGER)
        self._stage = f"@{relation(settings.database, settings.stage)}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warehouse")
        self._connection: SnowflakeConnection | None = None

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every committed row."""
        return await self._call(self._read_ledger)

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Add rows for the chains that have none."""
        if chains:
            await self._call(lambda: self._run(self._begin_sql(chains)))

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """Load the steps in one transaction."""
        await self._call(lambda: self._load(steps))

    async def advance(self, moves: Sequence[LedgerMove]) -> None:
        """Move the ledger rows that are at the start of their move, for rows that were loaded by other means than COPY."""
        await self._call(lambda: self._run(self._advance_sql(moves)))

    async def close(self) -> None:
        """Close the session."""
        with suppress(SinkUnavailableError):
            await self._call(self._disconnect)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _call(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._guarded(work))

    def _guarded(self, work: Callable[[], Answer]) -> Answer:
        try:
            return work()
        except errors.Error as error:
            if is_refusal(error):
                self._roll_back()
                if error.errno in CONFLICTS:
                    raise LedgerConflictError(f"another transaction came first: {_reason(error)}") from None
                raise SinkRefusedError(f"the warehouse refuses: {_reason(error)}") from None
            self._disconnect()
            raise SinkUnavailableError(
                f"the warehouse at {self._settings.host or self._settings.account} failed: {_reason(error)}"
            ) from None
        except (LedgerConflictError, SinkRefusedError):
            self._roll_back()
            raise
        except OSError as error:
            self._disconnect()
            raise SinkUnavailableError(
                f"the warehouse at {self._settings.host or self._settings.account} failed: {error}"
            ) from None

    def _roll_back(self) -> None:
        try:
            self._run("ROLLBACK")
        except errors.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(errors.Error, OSError):
                connection.close(retry=False)

    def _run(self, sql: str) -> tuple[list[tuple[Any, ...]], int]:
        """Run a statement and return its rows and the number of changed rows."""
        if self._connection is None:
            self._connection = connect(self._settings)
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()], cursor.rowcount or 0

    def _read_ledger(self) -> dict[ChainKey, LedgerRow]:
        rows, _ = self._run(ledger_query(self._settings.database))
        return ledger_rows(rows)

    def _begin_sql(self, chains: Iterable[ChainKey]) -> str:
        values = ", ".join(f"({_key(key)})" for key in chains)
        return f"""
            MERGE INTO {self._ledger} AS ledger
            USING (SELECT column1 AS topic, column2 AS incarnation, column3 AS log_partition FROM VALUES {values}) AS chain
            ON ledger.topic = chain.topic AND ledger.incarnation = chain.incarnation AND ledger.log_partition = chain.log_partition
            WHEN NOT MATCHED THEN
                INSERT (topic, incarnation, log_partition, last_offset, last_object, last_sha256, loaded_at)
                VALUES (chain.topic, chain.incarnation, chain.log_partition, -1, '', '', SYSDATE())"""  # noqa: S608 - quoted

    def _load(self, steps: Sequence[LoadStep]) -> None:
        self._run("BEGIN")
        _, moved = self._run(self._advance_sql(steps))
        if moved != len(steps):
            raise LedgerConflictError(f"{moved} of {len(steps)} ledger rows are at the start of this load")
        by_table: dict[str, list[LakeObject]] = defaultdict(list)
        for step in steps:
            by_table[step.landing] += step.objects
        for table, objects in sorted(by_table.items()):
            self._copy(table, objects)
        try:
            self._run("COMMIT")
        except errors.Error as error:
            if error.errno in CONFLICTS:
                raise
            self._disconnect()  # committed or not: only the ledger shows it
            raise SinkUnavailableError(f"the warehouse did not confirm a commit: {_reason(error)}") from None

    def _advance_sql(self, steps: Sequence[LoadStep] | Sequence[LedgerMove]) -> str:
        values = ", ".join(
            f"({_key(step.chain)}, {step.previous.last_offset}, {literal(step.previous.last_sha256)}, "
            f"{step.end.last_offset}, {literal(step.end.last_object)}, {literal(step.end.last_sha256)})"
            for step in steps
        )
        return f"""
            UPDATE {self._ledger} AS ledger
            SET last_offset = step.last_offset, last_object = step.last_object, last_sha256 = step.last_sha256, loaded_at = SYSDATE()
            FROM (
                SELECT column1 AS topic, column2 AS incarnation, column3 AS log_partition, column4 AS previous_last_offset,
                    column5 AS previous_sha256, column6 AS last_offset, column7 AS last_object, column8 AS last_sha256
                FROM VALUES {values}
            ) AS step
            WHERE ledger.topic = step.topic AND ledger.incarnation = step.incarnation AND ledger.log_partition = step.log_partition
                AND ledger.last_offset = step.previous_last_offset AND ledger.last_sha256 = step.previous_sha256"""  # noqa: S608 - quoted

    def _copy(self, table: str, objects: Sequence[LakeObject]) -> None:
        files = ", ".join(literal(found.object) for found in objects)
        rows, _ = self._run(
            f"COPY INTO {relation(self._settings.database, table)} FROM {self._stage} FILES = ({files}) FILE_FORMAT = (TYPE = JSON)"
        )
        expected = {found.object: found.rows for found in objects}
        loaded = {_name(str(row[0])): int(row[3]) for row in rows if len(row) > 3 and row[1] == "LOADED"}
        if loaded != expected:
            name = min(name for name in expected.keys() | loaded.keys() if loaded.get(name) != expected.get(name))
            raise SinkRefusedError(
                f"{name} did not load as announced: {loaded.get(name)} rows of {expected.get(name)} went into {table}"
            )


def _key(key: ChainKey) -> str:
    return f"{literal(key.topic)}, {literal(key.topic_id)}, {key.partition:d}"


def _name(file: str) -> str:
    """Returns the object's name from COPY's name of the file, which is a URL or a path below the stage."""
    name = "/".join(file.rsplit("/", 4)[-4:])
    with suppress(ValueError):
        chain.parse(name)
        return name
    return file


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
