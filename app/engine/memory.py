"""Runs a partition of a group in memory, with the same unit of work as live but without Kafka and RocksDB. For tests and replay."""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from app.engine.batch_unit_of_work import BatchUnitOfWork, Change
from app.engine.dead_letters import DeadLetter
from app.engine.lru import LruDict
from app.engine.offset_barrier import BarrierKey
from app.engine.partition_group import PartitionGroup, Punctuate, RecordHandler, apply_all
from app.engine.unit_of_work import InputRecord

MEMORY_ENTRIES = 10_000


PREFIX_BYTES = 8
"""Keys are grouped into buckets by their first bytes, which are an id in most tables. A scan sorts only the few keys of its buckets."""
SWEEP_AT = 1_000
"""The buckets are rebuilt when the removed keys outnumber the present ones by more than this."""


@dataclass(slots=True)
class _Entries:
    """One table: its values, and its keys in buckets by prefix. A removed key stays in its bucket until the next sweep."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    unplaced: list[bytes] = field(default_factory=list)
    """Keys that are in no bucket yet. Most are never scanned."""
    buckets: dict[bytes, set[bytes]] = field(default_factory=dict)
    gone: int = 0
    """The number of keys removed since the last sweep."""

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            self.unplaced.append(key)
        self.values[key] = value

    def remove(self, key: bytes) -> None:
        if self.values.pop(key, None) is not None:
            self.gone += 1
            if self.gone > len(self.values) + SWEEP_AT:
                self._sweep()

    def keys(self, start: bytes, end: bytes | None) -> list[bytes]:
        self._place()
        first = start[:PREFIX_BYTES]
        if end is not None and len(start) >= PREFIX_BYTES and (end[:PREFIX_BYTES] == first or _is_next(first, end)):
            return _between(self._of(first), start, end)
        last = None if end is None else end[:PREFIX_BYTES]
        prefixes = sorted(it for it in self.buckets if first <= it and (last is None or it <= last))
        return [key for prefix in prefixes for key in _between(self._of(prefix), start, end)]

    def _place(self) -> None:
        for key in self.unplaced:
            bucket = self.buckets.get(key[:PREFIX_BYTES])
            if bucket is None:
                self.buckets[key[:PREFIX_BYTES]] = {key}
            else:
                bucket.add(key)
        self.unplaced.clear()

    def _of(self, prefix: bytes) -> list[bytes]:
        """Returns the present keys of a prefix in ascending order."""
        return sorted(filter(self.values.__contains__, self.buckets.get(prefix, ())))

    def _sweep(self) -> None:
        self.unplaced, self.buckets, self.gone = list(self.values), {}, 0


def _between(ordered: list[bytes], start: bytes, end: bytes | None) -> list[bytes]:
    high = len(ordered) if end is None else bisect.bisect_left(ordered, end)
    return ordered[bisect.bisect_left(ordered, start) : high]


def _is_next(prefix: bytes, end: bytes) -> bool:
    """Returns whether `end` is the first key behind all keys with this prefix."""
    return len(end) == len(prefix) and int.from_bytes(end, "big") == int.from_bytes(prefix, "big") + 1


@dataclass(slots=True)
class InMemoryKeyValueStore:
    """The tables of one partition as dictionaries. Implements `ReadOnlyStore`."""

    tables: dict[str, _Entries] = field(default_factory=dict)

    def get(self, table: str, key: bytes) -> bytes | None:
        """Returns the value of a key, or None."""
        entries = self.tables.get(table)
        return None if entries is None else entries.values.get(key)

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yields the entries with start <= key < end in ascending order. The keys are those present when iteration starts."""
        entries = self.tables.get(table)
        if entries is not None:
            values = entries.values
            for key in entries.keys(start, end):
                yield key, values[key]

    def scan_back(self, table: str, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields the entries with start <= key < end in descending order."""
        return reversed(list(self.scan(table, start, end)))

    def write(self, changes: Iterable[Change]) -> None:
        """Applies the changes of a unit of work."""
        current, entries = None, _Entries()
        for table, key, value in changes:
            if table is not current:
                current, entries = table, self.tables.setdefault(table, _Entries())
            if value is None:
                entries.remove(key)
            else:
                entries.put(key, value)


class EmittedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that a unit emitted. `partition` is the partition of its topic; `timestamp` (ms) is that of the input record."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp: int


class _MemoryUnit(BatchUnitOfWork):
    """A unit that keeps all emitted records in one list, in order, each with the timestamp of its input record."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.outputs: list[EmittedRecord] = []
        self.timestamp = self.now_us // 1000
        self.until: str | None = None
        self.is_over = False

    def emit(self, topic: str, *, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """Adds a record to `outputs`."""
        if partition is None:
            partition = self.partition_of(topic, key)
        self.outputs.append(EmittedRecord(topic, partition, key, value, self.timestamp))
        self.undo_log.append(self.outputs)
        if topic == self.until:
            self.is_over = True


def _timed(records: Iterable[InputRecord], unit: _MemoryUnit, now_us: int | None) -> Iterator[InputRecord]:
    """Yields records and sets the unit's clock for each. Stops after the record that ends the unit."""
    for record in records:
        unit.timestamp = record.timestamp
        if now_us is None:
            unit.now_us = record.timestamp * 1000
        yield record
        if unit.is_over:
            return


class MemoryPartition:
    """One partition of a group whose state is in memory. Each call is one unit of work, which it commits before it returns."""

    def __init__(self, group: PartitionGroup, number: int, *, keep_logs: bool = False) -> None:
        """`keep_logs`: the store also has the tables that are only in changelogs, as the changelogs have them."""
        self._group, self.number = group, number
        self._tables = frozenset(table.name for table in group.tables)
        self._unstored = frozenset(table.name for table in group.tables if not (table.is_stored or keep_logs))
        self.store = InMemoryKeyValueStore()
        self.dead_letters: list[DeadLetter] = []
        self._memory: LruDict[Any, Any] = LruDict(MEMORY_ENTRIES)

    def process(
        self,
        records: Iterable[InputRecord],
        handlers: Mapping[str, RecordHandler],
        *,
        now_us: int | None = None,
        until: str | None = None,
    ) -> list[EmittedRecord]:
        """Applies records in order, each with the handler of its topic. Returns the emitted records in order.

        If `now_us` is None, the clock is each record's own timestamp. `until` names a topic: processing stops after the input record that
        emits to it. `records` must be an iterator then, so that the caller can continue with the rest.
        """
        unit = self._unit(now_us or 0)
        unit.until, name = until, self._group.name
        for topic, run in groupby(records, attrgetter("topic")):
            apply_all(name, _timed(run, unit, now_us), handlers[topic], unit)
            if unit.is_over:
                break
        return self._commit(unit)

    def punctuate(self, punctuate: Punctuate, *, now_us: int) -> list[EmittedRecord]:
        """Runs the group's time-driven work."""
        unit = self._unit(now_us)
        punctuate(unit)
        return self._commit(unit)

    def pass_barriers(
        self, *, now_us: int, reached: Callable[[BarrierKey], bool] = lambda _: True
    ) -> list[EmittedRecord]:
        """Runs the actions of the pending barriers for which `reached` is true. By default all are."""
        if self._group.pending_barriers is None:
            return []
        unit = self._unit(now_us)
        for barrier, act in self._group.pending_barriers(unit).items():
            if reached(barrier):
                act(unit)
        return self._commit(unit)

    def _unit(self, now_us: int) -> _MemoryUnit:
        return _MemoryUnit(
            partition=self.number,
            partitions=self._group.partitions,
            tables=self._tables,
            store=self.store,
            cache=self._memory,
            partitions_of=self._group.partitions_of,
            dead_letter_topic=self._group.dead_letter_topic,
            now_us=now_us,
        )

    def _commit(self, unit: _MemoryUnit) -> list[EmittedRecord]:
        self.store.write(change for change in unit.changes() if change[0] not in self._unstored)
        self.dead_letters += unit.dead_letters
        return unit.outputs
