"""A source database whose changes are all written to the warehouse too, and reconcile over both."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from app.config.captured_tables import OWN_TABLES
from app.config.settings import S3Settings, SnowflakeSettings, SourceSettings
from app.domain.captured import CapturedTable
from app.proof.reconcile.barrier import Offsets
from app.proof.reconcile.report import Report
from app.proof.reconcile.run import Declaration, compare_tables
from app.proof.reconcile.source import SourceReader, opened
from app.proof.reconcile.warehouse import CurrentRowsReader
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.warehouse.landing import Landing

Row = dict[str, Any]
DECLARED = (
    CapturedTable("cards", {"branch": "text", "number": "integer"}),
    CapturedTable("loans", {"loan_id": "text"}),
    CapturedTable("fees", {"factor": "text", "valid_on": "text", "changed_at": "text"}),
)
CREATED = """
    CREATE TABLE loans (loan_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), principal numeric(18, 2) NOT NULL, note text);
    CREATE TABLE cards (number bigint, branch text, card_limit numeric(12, 2), PRIMARY KEY (branch, number) INCLUDE (card_limit));
    CREATE TABLE fees (
        factor numeric(12, 4), valid_on date, changed_at timestamptz, name text, PRIMARY KEY (valid_on, factor, changed_at)
    );
    GRANT SELECT ON loans, cards, fees TO {reader}
"""
MESSAGE_KEYS = {
    **OWN_TABLES, "transactions": ("account_id",), **{table.name: tuple(table.key) for table in DECLARED},
}  # fmt: skip


def debezium(value: object) -> object:
    """A value as in the connector's JSON."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return f"{value.isoformat()}Z"
    return value if value is None or isinstance(value, int) else str(value)


class Bank:
    """A database whose changes also land in the warehouse, as they would through Debezium, Kafka, lake and loader."""

    def __init__(self, settings: SourceSettings, tables: Landing) -> None:
        self.settings, self.tables = settings, tables
        self.landed: list[Row] = []
        self.connection = self.connect()
        self.declaration = Declaration.of(CATALOGUE, "app/captured.toml")
        self.clock_ms = 0
        """The time of the next records."""
        self._lsn, self._offsets = 1_000, {}  # type: ignore[var-annotated]

    def connect(self) -> psycopg.Connection[Row]:
        """A session as the owner of the tables."""
        found = self.settings
        assert found.owner_password is not None
        return psycopg.connect(
            host=found.host, port=found.port, dbname=found.dbname, user=found.owner_user,
            password=found.owner_password.get_secret_value(), row_factory=dict_row,
        )  # fmt: skip

    def change(
        self, table: str, statement: str, *values: object, op: str = "c", connection: psycopg.Connection[Row] | None = None,
        land: bool = True,
    ) -> Row:  # fmt: skip
        """Runs a statement on one row, committed unless `connection` is given, and lands its change."""
        session = connection or self.connection
        row = session.execute(f"{statement} RETURNING *, pg_current_xact_id()::text AS xid".encode(), values).fetchone()
        assert row is not None
        if connection is None:
            session.commit()
        event = self.event(table, op, int(row.pop("xid")), row)
        if land:
            self.land(event)
        return row

    def event(self, table: str, op: str, xid: int, row: Row | None, **source: object) -> Row:
        """A record of the raw changes' landing table."""
        self._lsn += 8
        plain = None if row is None else {name: debezium(value) for name, value in row.items()}
        key = None if plain is None else {column: plain[column] for column in MESSAGE_KEYS[table]}
        partition = 0 if key is None else hash(tuple(key.values())) % 3
        at = self._offsets.setdefault((table, partition), 0)
        self._offsets[table, partition] += 1
        origin = {"table": table, "lsn": self._lsn, "txId": xid % (1 << 32), "ts_us": time.time_ns() // 1_000, **source}
        value = {
            "op": op, "source": origin, "before": plain if op == "d" else None, "after": None if op in "dt" else plain
        }  # fmt: skip
        return {
            "topic": f"bank.public.{table}",
            "partition": partition,
            "offset": at,
            "ts": self.clock_ms,
            "key": key,
            "value": value,
        }

    def land(self, *events: Row) -> None:
        """Appends records to the landing table."""
        self.landed.extend(events)
        self.tables.land({"CDC_EVENTS": events})

    def customer(self, name: str = "Ada", **how: Any) -> int:
        """Inserts a customer and returns its key."""
        row = self.change(
            "customers",
            "INSERT INTO customers (name, email, date_of_birth, address_line, country_code) "
            "VALUES (%s, NULL, '1815-12-10', '', 'GB')",
            name,
            **how,
        )
        return int(row["customer_id"])

    def account(self, customer: int) -> int:
        """Inserts an account and returns its key."""
        row = self.change(
            "accounts", "INSERT INTO accounts (customer_id, type, currency) VALUES (%s, 'checking', 'EUR')", customer
        )
        return int(row["account_id"])

    def transaction(self, account: int, amount: str, **how: Any) -> int:
        """Inserts a transaction and returns its key."""
        row = self.change(
            "transactions",
            "INSERT INTO transactions (account_id, type, amount, currency, channel, country_code, latitude, merchant_category) "
            "VALUES (%s, 'debit', %s, 'EUR', 'card', 'DE', 48.1, '5411')",
            account,
            amount,
            **how,
        )
        return int(row["transaction_id"])

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[SourceReader]:
        """A snapshot of the source now."""
        with opened(self.settings) as source:
            yield source

    def xid(self) -> int:
        """The id of a transaction that commits now."""
        with self.connection.transaction():
            found = self.connection.execute("SELECT pg_current_xact_id()::text AS xid").fetchone()
        assert found is not None
        self.connection.commit()
        return int(found["xid"])

    def declare(self) -> None:
        """Adds the tables of DECLARED to the captured ones."""
        assert self.settings.reader_user is not None
        self.connection.execute(CREATED.format(reader=self.settings.reader_user).encode())
        self.connection.commit()
        self.declaration = replace(self.declaration, tables=(*self.declaration.tables, *DECLARED), file="bank.toml")

    def insert(self, table: str, *rows: tuple[object, ...]) -> None:
        """Inserts rows of a declared table, which land in this order."""
        places = ", ".join(["%s"] * len(rows[0]))
        for row in rows:
            self.change(table, f"INSERT INTO {table} VALUES ({places})", *row)  # noqa: S608 - written below

    def compare(self, source: SourceReader, lake: S3Settings | None = None, offsets: Offsets | None = None) -> Report:
        """Compares the snapshot with the records that have landed, all or up to some offsets."""
        found = settings_of(self.tables.environment, SnowflakeSettings)
        with contextlib.closing(CurrentRowsReader(found, lake)) as warehouse:
            return compare_tables(self.declaration, source, warehouse, offsets or {}, began=time.monotonic())

    def reconcile(self) -> Report:
        """Compares the current source with the current warehouse."""
        with self.snapshot() as source:
            return self.compare(source)
