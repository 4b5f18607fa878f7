"""Reads PostgreSQL's side: every row of the declared tables in one snapshot, and the transactions that the snapshot sees."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from app.config.settings import SourceSettings
from app.domain.captured import CapturedTable
from app.domain.times import format_us
from app.operations.dbt.columns import key_kind
from app.operations.provision.catalogue import shown
from app.postgres import as_reader
from app.proof.reconcile.canonical import Convert, Value, converter
from app.proof.reconcile.keys import KeyColumn, Order, order_of
from app.proof.reconcile.report import ReconcileError

CURSOR_ROWS: Final = 5_000
CONNECT_TIMEOUT_S: Final = 10
MONEY_SCALE: Final = 2


@dataclass(frozen=True, slots=True)
class PostgresSnapshot:
    """A snapshot. It sees the transactions below `xmax` except those in progress. Transaction ids have 64 bits."""

    text: str
    xmax: int
    in_progress: tuple[int, ...]
    taken_us: int
    lsn: str

    @property
    def taken_at(self) -> str:
        """The time of the snapshot by PostgreSQL's clock."""
        return format_us(self.taken_us)


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and the conversion of its values for the comparison."""

    name: str
    type_name: str
    money: bool
    convert: Convert


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table as it is in the source. `key`: the columns of its primary key, in their declared order."""

    declared: CapturedTable
    columns: tuple[Column, ...]
    key: tuple[KeyColumn, ...]

    @property
    def name(self) -> str:
        """The table's name in the source."""
        return self.declared.name


class SourceReader:
    """An open REPEATABLE READ transaction: all its reads see the same instant."""

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

    def table(self, declared: CapturedTable, file: str) -> Table:
        """Returns the table with its columns, except generated ones, which are not captured. `file` is the file that declares it.

        ReconcileError if the source has no such table, or if the table has another primary key.
        """
        name = f"public.{declared.name}"
        found = self._connection.execute(
            "SELECT attname, format_type(CASE typtype WHEN 'd' THEN typbasetype ELSE atttypid END, NULL), "
            "CASE typtype WHEN 'd' THEN typtypmod ELSE atttypmod END, attnum = ANY(indkey[0:indnkeyatts - 1]) "
            "FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            "LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            [name],
        ).fetchall()
        if not found:
            raise ReconcileError(
                f"PostgreSQL has no table {name}, which {file} declares as [{declared.name}]. Create it (the bank's own: bankstream "
                "stack up), or remove it from the file that BANKSTREAM_TABLES_FILE names."
            )
        key = {column: key_kind(type_name) for column, type_name, _, in_key in found if in_key}
        if key != declared.key:
            raise ReconcileError(
                f"table {name} has {shown(key)} as its primary key, but {file} declares [{declared.name}] with "
                f"{shown(declared.key)}. Correct the declaration and restart the workers, or give the table that key."
            )
        places = {
            column: (place, type_name, _scale(modifier)) for place, (column, type_name, modifier, _) in enumerate(found)
        }
        return Table(
            declared,
            tuple(
                Column(
                    column, type_name, type_name == "numeric" and _scale(modifier) == MONEY_SCALE, converter(type_name)
                )
                for column, type_name, modifier, _ in found
            ),
            tuple(
                KeyColumn(column, kind, type_name, scale, place)
                for column, kind in declared.key.items()
                for place, type_name, scale in (places[column],)
            ),
        )

    def rows(self, table: Table) -> Iterator[tuple[Order, tuple[Value, ...]]]:
        """Yields every row with its key, in key order. CURSOR_ROWS rows are in memory at a time."""
        texts = sql.SQL(", ").join(
            sql.SQL("kept.{}::text").format(sql.Identifier(column.name)) for column in table.columns
        )
        query = sql.SQL("SELECT {texts} FROM {table} AS kept ORDER BY {order}").format(
            texts=texts,
            table=sql.Identifier("public", table.name),
            order=sql.SQL(", ").join(column.source_order for column in table.key),
        )
        converts = [column.convert for column in table.columns]
        with self._connection.cursor(f"reconcile_{table.name}"[:63]) as cursor:
            cursor.itersize = CURSOR_ROWS
            cursor.execute(query)
            for values in cursor:
                row = tuple(
                    None if value is None else convert(value) for convert, value in zip(converts, values, strict=True)
                )
                yield order_of(table.key, row), row


@contextmanager
def opened(settings: SourceSettings) -> Iterator[SourceReader]:
    """Holds a snapshot for the length of the context."""
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
    """Returns the scale of NUMERIC(p, s), which PostgreSQL stores in the low bits of the type modifier."""
    return None if modifier < 0 else (((modifier - 4) & 0x7FF) ^ 1024) - 1024
