"""PostgreSQL's side: every row of the captured tables as one snapshot sees them, and what that snapshot sees of others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from app.config.settings import SourceSettings
from app.domain.times import format_us
from app.postgres import as_reader
from app.proof.reconcile.canonical import Convert, Value, converter
from app.proof.reconcile.report import ReconcileError

TABLES: Final[Mapping[str, str]] = {
    "customers": "customer_id",
    "accounts": "account_id",
    "transactions": "transaction_id",
}
"""The captured tables of schema `public`, and the primary key of each."""
CURSOR_ROWS: Final = 5_000
CONNECT_TIMEOUT_S: Final = 10
MONEY_SCALE: Final = 2


@dataclass(frozen=True, slots=True)
class PostgresSnapshot:
    """What one instant sees: transactions below `xmax` but for those in progress. 64-bit transaction ids."""

    text: str
    xmax: int
    in_progress: tuple[int, ...]
    taken_us: int
    lsn: str

    @property
    def taken_at(self) -> str:
        """When it was taken, by PostgreSQL's clock."""
        return format_us(self.taken_us)


@dataclass(frozen=True, slots=True)
class Column:
    """A column as both sides are compared by it."""

    name: str
    type_name: str
    money: bool
    convert: Convert


class SourceReader:
    """An open REPEATABLE READ transaction: everything read through it is of the same instant."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        text, taken_us, lsn = _one(
            connection,
            "SELECT pg_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, "
            "pg_current_wal_lsn()::text",
        )
        _, xmax, in_progress = str(text).split(":")
        self.snapshot = PostgresSnapshot(
            str(text), int(xmax), tuple(map(int, filter(None, in_progress.split(",")))), int(taken_us), str(lsn)
        )

    def columns(self, table: str) -> tuple[Column, ...]:
        """The columns of a table in their order, generated ones left out (they are not captured)."""
        rows = self._connection.execute(
            "SELECT attname, format_type(atttypid, NULL), atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) "
            "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            [f"public.{table}"],
        ).fetchall()
        if not rows:
            raise ReconcileError(f"PostgreSQL has no table public.{table}. Set it up: bankstream stack up")
        return tuple(
            Column(name, type_name, type_name == "numeric" and _scale(modifier) == MONEY_SCALE, converter(type_name))
            for name, type_name, modifier in rows
        )

    def rows(self, table: str, columns: tuple[Column, ...]) -> Iterator[tuple[int, tuple[Value, ...]]]:
        """Every row with its key, in the order of the keys, a few thousand in memory at a time."""
        key = TABLES[table]
        texts = sql.SQL(", ").join(sql.SQL("kept.{}::text").format(sql.Identifier(column.name)) for column in columns)
        query = sql.SQL("SELECT kept.{key}, {texts} FROM {table} AS kept ORDER BY kept.{key}").format(
            key=sql.Identifier(key), texts=texts, table=sql.Identifier("public", table)
        )
        converts = [column.convert for column in columns]
        with self._connection.cursor(f"reconcile_{table}") as cursor:
            cursor.itersize = CURSOR_ROWS
            cursor.execute(query)
            for found, *values in cursor:
                yield (
                    found,
                    tuple(
                        None if value is None else convert(value)
                        for convert, value in zip(converts, values, strict=True)
                    ),
                )


@contextmanager
def opened(settings: SourceSettings) -> Iterator[SourceReader]:
    """The snapshot, for as long as the context lasts."""
    try:
        connection = as_reader(
            settings, connect_timeout=CONNECT_TIMEOUT_S, application_name="bankstream reconcile",
            options="-c timezone=UTC -c datestyle=ISO -c extra_float_digits=1 -c idle_in_transaction_session_timeout=0",
        )  # fmt: skip
    except psycopg.OperationalError as error:
        raise ReconcileError(
            f"PostgreSQL does not let {settings.reader_user} in: {' '.join(str(error).split())}"
        ) from None
    try:
        with connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield SourceReader(connection)
    except psycopg.Error as error:
        raise ReconcileError(
            f"PostgreSQL does not answer {settings.reader_user}: {' '.join(str(error).split())}"
        ) from None


def _one(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(row)


def _scale(modifier: int) -> int | None:
    """The scale of NUMERIC(p, s), which PostgreSQL keeps in the low bits of its type modifier."""
    return None if modifier < 0 else (((modifier - 4) & 0x7FF) ^ 1024) - 1024
