"""Fills the local store of a partition with customers' histories, computes any of them again, and applies records as a worker does.

Each stored event is a function of its customer and its number, so that no list of millions of events is in memory beside what is measured.
Events are spread over the 31 days that a history keeps: with each new event, on average one expires.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from rocksdict import Cache

from agents import velocity
from app.config.settings import EngineSettings, WorkerSettings
from app.config.topics import DEAD_LETTERS, TRANSACTIONS, VELOCITY
from app.domain.events import POSTED, Event, Facts
from app.domain.records import WINDOWS_US, TransactionRecord, VelocityRecord, Window, encode, key_bytes
from app.domain.rules.rule import RuleSet
from app.domain.times import parse_us
from app.domain.velocity import RETENTION_US
from app.engine.batch_unit_of_work import BatchUnitOfWork, Change
from app.engine.lru import LruDict
from app.engine.partition_group import apply_all
from app.engine.store import Store
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.native.history import NativeHistory, without_rules
from app.native.library import load
from tables.encoding import number_key
from tables.truncations import TRUNCATIONS
from tables.velocity_events import EVENTS
from tables.velocity_histories import HISTORIES, TABLES
from tests.support.bank.cdc import Record
from tests.support.streams.velocity import START_US, transaction

NEWEST_US: Final = START_US + RETENTION_US
"""The time of the newest stored event of each customer."""
DIFFERENT: Final = 1_000
"""Customers whose numbers differ by this have the same events."""
BATCH_CUSTOMERS: Final = 1_000
"""The customers whose histories are written to the store at once."""
CENT: Final = Decimal("0.01")
COUNTRIES: Final = ("DE",) * 61 + ("FR", "PL", "US")


def stored_event(customer_id: int, number: int, count: int) -> Event:
    """Returns one of the `count` stored events of a customer. `number` is from 0 (the oldest) on."""
    mixed = ((number + 1) * 0x9E3779B97F4A7C15 + customer_id % DIFFERENT * 0xC2B2AE3D27D4EB4F & (1 << 64) - 1) >> 24
    step_us = RETENTION_US // count
    time_us = NEWEST_US - (count - 1 - number) * step_us - (mixed % step_us if number < count - 1 else 0)
    counterparty = (mixed % 40 + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1 if mixed & 64 else 0
    facts = Facts(
        100 + mixed % 30_000, "EUR", mixed & 128 > 0, POSTED, counterparty, COUNTRIES[mixed >> 8 & 63],
        number * 20_800 + mixed % 20_800, 0, number * 100 + mixed % 100,
    )  # fmt: skip
    return Event(time_us, 1 + (mixed >> 7) % 2, _transaction_id(number), facts)


def _transaction_id(number: int) -> int:
    return (number + 1) * 1_009


@lru_cache(maxsize=DIFFERENT)
def _chunks(like: int, count: int) -> list[tuple[bytes, bytes]]:
    """Returns the chunks of a customer's history, with what follows the customer in their keys."""
    history = NativeHistory(without_rules(), (stored_event(like, number, count) for number in range(count)))
    return [(key[8:], value) for key, value in history.changes(like) if value is not None]


@lru_cache(maxsize=DIFFERENT)
def _records(like: int, count: int) -> list[tuple[bytes, bytes]]:
    """Returns the changelog's records of a customer, with what follows the customer in their keys."""
    events = [stored_event(like, number, count) for number in range(count)]
    return [
        (EVENTS.encode_key((like, it.time_us, it.account_id, it.transaction_id))[8:], EVENTS.encode(it.facts))
        for it in events
    ]


def fill(path: Path, customers: Sequence[tuple[int, int]], *, is_restore: bool = False) -> None:
    """Writes the histories of customers, each with its number of events; with `is_restore`, the records of the changelog instead."""
    entries, table = (_records, EVENTS.name) if is_restore else (_chunks, HISTORIES.name)
    store = Store(path, block_cache=Cache(8 << 20), bulk=True)
    for at in range(0, len(customers), BATCH_CUSTOMERS):
        changes: list[Change] = []
        for customer_id, count in customers[at : at + BATCH_CUSTOMERS]:
            prefix = number_key(customer_id)
            changes += [(table, prefix + key, value) for key, value in entries(customer_id % DIFFERENT, count)]
        store.write(changes, {})
    store.close()


class Row(NamedTuple):
    """What the windows depend on."""

    time_us: int
    amount_minor: int
    counterparty: int
    country: str | None


class BruteForce:
    """The windows of customers, from lists of all events. Currency and status of all are the same."""

    def __init__(self, counts: dict[int, int]) -> None:
        """`counts`: the customers whose windows may be asked for, each with its number of stored events."""
        self._counts = counts
        self._changed: dict[int, dict[int, Row]] = defaultdict(dict)

    def apply(self, record: TransactionRecord) -> None:
        """Adds or corrects a transaction."""
        if record.customer_id in self._counts:
            self._changed[record.customer_id][record.transaction_id] = _row(record)

    def windows(self, record: TransactionRecord) -> dict[str, Window] | None:
        """Returns the windows of a transaction that was applied last; None if its customer is none of those."""
        if record.customer_id not in self._counts:
            return None
        newest_us = max(NEWEST_US, *(row.time_us for row in self._changed[record.customer_id].values()))
        kept = (row for row in self._rows(record.customer_id) if row.time_us >= newest_us - RETENTION_US)
        return _windows(kept, parse_us(record.booked_at))

    def _rows(self, customer_id: int) -> Iterator[Row]:
        changed, count = self._changed[customer_id], self._counts[customer_id]
        for number in range(count):
            if _transaction_id(number) not in changed:
                event = stored_event(customer_id, number, count)
                yield Row(event.time_us, event.facts.amount_minor, event.facts.counterparty, event.facts.country)
        yield from changed.values()


def _row(record: TransactionRecord) -> Row:
    account = record.counterparty_account
    digest = hashlib.blake2b(account.encode()).digest() if account else b""
    return Row(
        parse_us(record.booked_at),
        int(Decimal(record.amount) * 100),
        int.from_bytes(digest[:8], "big"),
        record.country_code,
    )


def _windows(rows: Iterator[Row], end_us: int) -> dict[str, Window]:
    longest = max(WINDOWS_US.values())
    recent = [row for row in rows if end_us - longest < row.time_us <= end_us]
    windows = {}
    for name, length_us in WINDOWS_US.items():
        inside = [row for row in recent if row.time_us > end_us - length_us]
        total = Decimal(sum(row.amount_minor for row in inside)) * CENT
        windows[name] = Window(
            count=len(inside),
            sum=str(total.quantize(CENT)),
            average=str((total / len(inside)).quantize(CENT, ROUND_HALF_EVEN)),
            max=str((max(row.amount_minor for row in inside) * CENT).quantize(CENT)),
            distinct_counterparties=len({row.counterparty for row in inside} - {0}),
            distinct_countries=len({row.country for row in inside}),
            declined_count=0,
        )
    return windows


class Records:
    """Makes records of bank.transactions whose transactions, log positions and times of booking go up."""

    def __init__(self, step_us: int) -> None:
        """`step_us`: the time between two bookings."""
        self._step_us, self._made, self._now_us = step_us, 0, NEWEST_US

    def new(self, customer_id: int, late_us: int = 0) -> TransactionRecord:
        """Returns a new transaction."""
        self._now_us += self._step_us
        number = self._next()
        return self._record("created", customer_id, 1 + number % 2, 10**12 + number, self._now_us - late_us)

    def correction(self, customer_id: int, age_us: int, count: int, behind: int = 0) -> TransactionRecord:
        """Returns a correction of the amount of a stored transaction: the `behind`-th of those that are at least so old."""
        steps = max(0, -((self._now_us - age_us - NEWEST_US) * count // RETENTION_US)) + behind
        event = stored_event(customer_id, max(0, count - 1 - steps), count)
        self._next()
        return self._record("updated", customer_id, event.account_id, event.transaction_id, event.time_us)

    def again(self, record: TransactionRecord) -> TransactionRecord:
        """Returns a correction of the amount of a transaction."""
        self._next()
        return self._record(
            "updated", record.customer_id, record.account_id, record.transaction_id, parse_us(record.booked_at)
        )

    def _next(self) -> int:
        self._made += 1
        return self._made

    def _record(
        self, op: str, customer_id: int, account_id: int, transaction_id: int, time_us: int
    ) -> TransactionRecord:
        number = self._made
        minor = 100 + number * 7_919 % 30_000
        return transaction(
            transaction_id, time_us - START_US, f"{minor // 100}.{minor % 100:02d}", op=op, lsn=10**13 + number, offset=10**10 + number,
            customer_id=customer_id, account_id=account_id, commit_us=self._now_us - START_US,
            counterparty=f"EXT{number % 60:012d}" if number % 2 else None, country=COUNTRIES[number % 64],
        )  # fmt: skip


class Timed(NamedTuple):
    """The processor time of records, in nanoseconds."""

    handler_ns: list[int]
    """Of the handler, by record."""
    rest_ns: int
    """Of the unit of work and the write to the store, of all records together, with RocksDB's own threads."""


class BankPartition:
    """A partition's agent with its unit of work, cache and RocksDB store, without Kafka. The limits are those of the settings."""

    def __init__(self, path: Path, rules: RuleSet) -> None:
        self._store = Store(path, block_cache=Cache(EngineSettings().block_cache_mb << 20))
        self._handler = velocity.handler(rules, load(), WorkerSettings().velocity_cache_mb << 20)
        self._cache: LruDict[Any, Any] = LruDict(EngineSettings().memory_entries)
        self._tables = frozenset(table.name for table in (*TABLES, TRUNCATIONS))

    def process(self, records: Sequence[TransactionRecord]) -> tuple[Timed, list[bytes]]:
        """Applies records in one unit of work and writes its changes to the store. Returns the times and the velocity records."""
        inputs = [Record(TRANSACTIONS.name, encode(it), key_bytes("customer_id", it.customer_id)) for it in records]
        took: list[int] = []

        def timed(record: InputRecord, unit: UnitOfWork) -> None:
            began = time.thread_time_ns()
            self._handler(record, unit)
            took.append(time.thread_time_ns() - began)

        began = time.process_time_ns()
        unit = BatchUnitOfWork(
            partition=0, partitions=1, tables=self._tables, store=self._store, cache=self._cache, partitions_of=lambda _: 1,
            dead_letter_topic=DEAD_LETTERS.name, now_us=NEWEST_US,
        )  # fmt: skip
        apply_all("by-customer", inputs, timed, unit)
        self._store.write([change for change in unit.changes() if change[0] != EVENTS.name], {})
        whole = time.process_time_ns() - began
        velocities = [value or b"" for _, value in unit.records[VELOCITY.name, 0]]
        assert not unit.dead_letters, unit.dead_letters[0]
        assert len(velocities) == len(records)
        return Timed(took, whole - sum(took)), velocities


def windows_of(velocity_record: bytes) -> dict[str, Window]:
    """Returns the windows of a record of bank.velocity."""
    return msgspec.json.decode(velocity_record, type=VelocityRecord).windows
