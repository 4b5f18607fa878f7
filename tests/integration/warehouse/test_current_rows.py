"""Tests that dbt's models, reconcile's query and the streams find the same current rows in a hostile history of each table."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.config.settings import SnowflakeSettings
from app.domain.captured import CapturedTable
from app.local.stack.part import Part
from app.operations.dbt.build import build
from app.proof.reconcile.canonical import converter
from app.proof.reconcile.keys import KeyColumn
from app.proof.reconcile.source import Column, PostgresSnapshot, Table
from app.proof.reconcile.warehouse import CurrentRowsReader
from tests.support.bank.bank_day import account, customer, transaction
from tests.support.bank.cdc import COMMIT_US, Record, envelope, json_bytes
from tests.support.machine.stack import StackPool, settings_of
from tests.support.streams.topology_driver import TopologyDriver
from tests.support.warehouse.landing import Landing, landing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AT = "2026-03-02T09:00:00.000000Z"
EVERYTHING = PostgresSnapshot("", 1_000, (), COMMIT_US + 10**12, "0/0")
"""A snapshot that sees every transaction of these histories."""


@dataclass
class History:
    """The changes of one table, recorded one second apart in this order. The value of `column` describes each change."""

    table: str
    key: str
    column: str
    partitions: int = 2
    records: list[Record] = field(default_factory=list)
    refused: list[Record] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)

    def add(
        self, op: str, key: Any, says: str = "", *, lsn: int | None, partition: int = 0, refused: bool = False,
        snapshot: str = "false", tx_id: int | None = 7, **how: Any,
    ) -> None:  # fmt: skip
        """Adds a change. `refused`: its message key differs from its row's, so the streams worker makes it a dead letter."""
        row = None if op == "t" else self._row(key, says)
        before, after = (row, None) if op == "d" else (None, row)
        value = envelope(
            self.table, op, before=before, after=after, lsn=lsn, tx_id=tx_id, snapshot=snapshot, **how
        )  # fmt: skip
        offset = self.offsets[partition] = self.offsets.get(partition, -1) + 1
        recorded_ms = COMMIT_US // 1_000 + 1_000 * len(self.records)
        message_key = None if row is None else json_bytes({self.key: -1 if refused else key})
        record = Record(f"bank.public.{self.table}", value, message_key, partition, offset, recorded_ms)
        self.records.append(record)
        if refused:
            self.refused.append(record)

    def landed(self) -> dict[str, list[dict[str, Any]]]:
        """The records, and the dead letters, as landing tables have them."""
        letters = [
            {"topic": r.topic, "partition": r.partition, "offset": r.offset, "reason": "key_mismatch"}
            for r in self.refused
        ]
        return {
            "CDC_EVENTS": [
                {
                    "topic": r.topic, "partition": r.partition, "offset": r.offset, "ts": r.timestamp,
                    "key": json.loads(r.key or b"null"), "value": json.loads(r.value or b"null"),
                }
                for r in self.records
            ],
            "DEAD_LETTERS": [
                {
                    "topic": "bank.dead-letters", "partition": 0, "offset": letter["offset"], "ts": 0, "key": None,
                    "value": letter,
                }
                for letter in letters
            ],
        }  # fmt: skip

    def by_streams(self) -> set[tuple[int, str]]:
        """The rows of open versions if every table command is applied before the next record is processed."""
        running = TopologyDriver()
        for record in self.records:
            running.take(record)
            running.pass_barriers()
        assert len(running.reasons) == len(self.refused)
        records = running.values(f"bank.scd2.{self.table}")
        closed = {record["version_id"] for record in records if record["op"] == "close"}
        return {
            (record["key"][self.key], record["attributes"][self.column])
            for record in records
            if record["op"] == "open" and record["version_id"] not in closed
        }

    def by_dbt(self, tables: Landing) -> list[tuple[Any, ...]]:
        """The rows of the silver model."""
        return sorted(tables.rows(f"SILVER.{self.table}", self.key, self.column))

    def by_reconcile(self, tables: Landing) -> list[tuple[Any, ...]]:
        """The rows that reconcile would compare with the source."""
        table = Table(
            CapturedTable(self.table, {self.key: "integer"}),
            (
                Column(self.key, "bigint", money=False, convert=converter("bigint")),
                Column(self.column, "text", money=False, convert=str),
            ),
            (KeyColumn(self.key, "integer", "bigint", None, 0),),
        )
        with contextlib.closing(CurrentRowsReader(settings_of(tables.environment, SnowflakeSettings))) as warehouse:
            return [(key[0], row[1]) for key, row in warehouse.rows(table, EVERYTHING)]

    def _row(self, key: Any, says: str) -> dict[str, Any]:
        made = {
            "customers": lambda: customer(key, AT),
            "accounts": lambda: account(key, 1, AT),
            "transactions": lambda: transaction(key, 1, AT),
        }[self.table]()
        return made | {self.column: says}


def truncated() -> History:
    """Customers with and without an lsn, before and after a TRUNCATE, which is repeated at the end."""
    log = History("customers", "customer_id", "city")
    log.add("c", 1, "below", lsn=100)
    log.add("c", 2, "without an lsn, before", lsn=None)
    log.add("r", 3, "read incrementally, before", lsn=None, tx_id=None, snapshot="incremental")
    log.add("c", 4, "below", lsn=110)
    log.add("u", 4, "below, changed without an lsn", lsn=None)
    log.add("c", 5, "below", lsn=120)
    log.add("c", 6, "below", lsn=130)
    log.add("t", None, lsn=500, partition=1)
    log.add("c", 11, "behind", lsn=510)
    log.add("c", 12, "without an lsn, behind", lsn=None)
    log.add("r", 13, "read incrementally, behind", lsn=None, tx_id=None, snapshot="incremental")
    log.add("c", 14, "behind", lsn=520)
    log.add("u", 14, "behind, changed without an lsn", lsn=None)
    log.add("r", 5, "made anew and read incrementally", lsn=None, tx_id=None, snapshot="incremental")
    log.add("c", 6, "replayed", lsn=130)
    log.add("u", 11, "refused", lsn=530, refused=True)
    log.add("t", None, lsn=500, partition=1)
    return log


def snapshotted() -> History:
    """Accounts before, in and after a complete snapshot, and records that look like the end of one."""
    log = History("accounts", "account_id", "status")
    log.add("c", 1, "not found", lsn=100)
    log.add("c", 2, "without an lsn, not found", lsn=None)
    log.add("r", 3, "read incrementally, not found", lsn=None, tx_id=None, snapshot="incremental")
    log.add("c", 4, "before", lsn=110)
    log.add("c", 9, "before", lsn=120)
    log.add("d", 9, "before", lsn=130)
    log.add("c", 9, "revived", lsn=140, partition=0)
    log.add("c", 10, "before", lsn=150)
    log.add("d", 10, "deleted", lsn=160)
    log.add("r", 4, "found", lsn=1_000, snapshot="true")
    log.add("r", 9, "found, revived", lsn=1_000, snapshot="true", partition=1)
    log.add("r", 5, "found last", lsn=1_000, snapshot="last_in_data_collection", partition=1)
    log.add("c", 6, "under way at the snapshot", lsn=990)
    log.add("c", 7, "without an lsn, behind", lsn=None)
    log.add("r", 8, "read incrementally, behind", lsn=None, tx_id=None, snapshot="incremental")
    log.add("r", 11, "marked as the last, without an lsn", lsn=None, snapshot="last")
    log.add("c", 12, "marked as the last, but inserted", lsn=1_100, snapshot="last")
    log.add("c", 10, "replayed", lsn=150)
    return log


def moved() -> History:
    """Transactions that moved, were repeated, were refused, or are unreadable."""
    log = History("transactions", "transaction_id", "description")
    log.add("c", 1, "created", lsn=10)
    log.add("u", 1, "updated", lsn=20)
    log.add("c", 1, "created, replayed", lsn=10)
    log.add("u", 1, "updated", lsn=20)
    for key in (3, 4):
        log.add("c", key, "created", lsn=30 + key)
        log.add("d", key, "moved away", lsn=40 + key)
        log.add("c", key, "moved to another partition", lsn=40 + key, partition=1)
    log.add("u", 4, "moved, and changed without an lsn", lsn=None, partition=1)
    for key in (5, 6):
        log.add("c", key, "created", lsn=50 + key)
        log.add("d", key, "moved away", lsn=60 + key)
        log.add("c", key, "moved inside of its partition", lsn=60 + key)
    log.add("d", 6, "moved away: a replay that goes no further", lsn=66)
    log.add("c", 7, "created", lsn=70)
    log.add("d", 7, "deleted", lsn=71)
    log.add("c", 7, "revived", lsn=72)
    log.add("c", 8, "created", lsn=80)
    log.add("d", 8, "deleted", lsn=81)
    log.add("c", 8, "replayed", lsn=80)
    log.add("c", 9, "created", lsn=90)
    log.add("u", 9, "refused", lsn=91, refused=True)
    log.add("c", 10, "refused", lsn=92, refused=True)
    log.add("r", 11, "read", lsn=120, snapshot="true")
    log.add("u", 11, "changed by a transaction under way at the snapshot", lsn=110)
    log.add("r", 12, "read by the first snapshot", lsn=130, snapshot="true")
    log.add("r", 12, "read by the second snapshot", lsn=140, snapshot="true")
    log.add("r", 12, "read by the first snapshot, replayed", lsn=130, snapshot="true")
    log.add("c", 13, "without a time of commit", lsn=150, commit_us=None)
    log.add("c", "one", "no integer", lsn=151)
    log.add("c", 15, "created", lsn=152)
    log.add("u", 15, "updated at a position that is none", lsn=-1)
    return log


LIVING = {
    "customers": [
        (5, "made anew and read incrementally"),
        (11, "behind"),
        (12, "without an lsn, behind"),
        (13, "read incrementally, behind"),
        (14, "behind, changed without an lsn"),
    ],
    "accounts": [
        (4, "found"),
        (5, "found last"),
        (6, "under way at the snapshot"),
        (7, "without an lsn, behind"),
        (8, "read incrementally, behind"),
        (9, "found, revived"),
        (11, "marked as the last, without an lsn"),
        (12, "marked as the last, but inserted"),
    ],
    "transactions": [
        (1, "updated"),
        (3, "moved to another partition"),
        (4, "moved, and changed without an lsn"),
        (5, "moved inside of its partition"),
        (6, "moved inside of its partition"),
        (7, "revived"),
        (9, "created"),
        (11, "changed by a transaction under way at the snapshot"),
        (12, "read by the second snapshot"),
        (15, "updated at a position that is none"),
    ],
}
HISTORIES = {history.table: history for history in (truncated(), snapshotted(), moved())}


@pytest.fixture(scope="module")
def tables(stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landing]:
    """The histories, landed, with the models built."""
    with landing(stack_pool.get(Part.S3, Part.WAREHOUSE), tmp_path_factory.mktemp("home")) as found:
        for history in HISTORIES.values():
            found.land(history.landed())
        select = [f"+{table}" for table in HISTORIES]
        result = build(found.environment, settle_seconds=0, select=select, data_tests=False)
        assert result.ok, result.lines()
        yield found


@pytest.mark.parametrize("table", HISTORIES)
def test_dbt_and_reconcile_have_exactly_the_current_rows(table: str, tables: Landing) -> None:
    history = HISTORIES[table]
    assert history.by_dbt(tables) == LIVING[table]
    assert history.by_reconcile(tables) == LIVING[table]


@pytest.mark.parametrize("table", ["customers", "accounts"])
def test_the_streams_have_open_versions_of_exactly_the_current_rows(table: str) -> None:
    assert sorted(HISTORIES[table].by_streams()) == LIVING[table]
