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
from app.postgres import as_reader
from app.postgres.catalogue import SourceColumn, shown, source_tables
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

    @classmethod
    def of(cls, column: SourceColumn) -> "Column":
        """Returns the column, with the conversion of its type."""
        plain = column.plain_type
        return cls(column.name, plain, money=column.scale == MONEY_SCALE, convert=converter(plain))


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

        ReconcileError if the source has no such table, or if the table has another primary key. The order of the key's columns may
        differ from the declared one: both sides are sorted in the declared order.
        """
        name = f"public.{declared.name}"
        found = source_tables(self._connection, [declared.name]).get(declared.name)
        if found is None:
            raise ReconcileError(
                f"PostgreSQL has no table {name}, which {file} declares as [{declared.name}]. Create it (the bank's own: bankstream "
                "stack up), or remove it from the file that BANKSTREAM_TABLES_FILE names."
            )
        if found.key != declared.key:
            raise ReconcileError(
                f"table {name} has {shown(found.key)} as its primary key, but {file} declares [{declared.name}] with "
                f"{shown(declared.key)}. Correct the declaration and restart the workers, or give the table that key."
            )
        places = {column.name: place for place, column in enumerate(found.columns)}
        return Table(
            declared,
            tuple(map(Column.of, found.columns)),
            tuple(
                KeyColumn(column.name, kind, column.plain_type, column.scale, places[column.name])
                for column, kind in ((found.columns[places[name]], kind) for name, kind in declared.key.items())
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
