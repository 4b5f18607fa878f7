"""Partitions of a group in memory: the same unit of work as live, without Kafka and RocksDB. For tests and for replay."""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.engine.dead_letters import DeadLetter
from app.engine.group import Apply, Group, Punctuate, apply_all
from app.engine.lru import LruDict
from app.engine.unit import InputRecord
from app.engine.unit_of_work import BatchUnit

MEMORY_ENTRIES = 10_000


@dataclass
class MemoryStore:
    """Tables as dictionaries. Implements `Readable`; the keys are sorted when a scan first needs it."""

    tables: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    _ordered: dict[str, list[bytes]] = field(default_factory=dict)

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self.tables.get(table, {}).get(key)

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end in ascending order."""
        entries = self.tables.get(table, {})
        ordered = self._ordered.get(table)
        if ordered is None:
            ordered = self._ordered[table] = sorted(entries)
        low = bisect.bisect_left(ordered, start)
        high = len(ordered) if end is None else bisect.bisect_left(ordered, end)
        for key in ordered[low:high]:
            yield key, entries[key]

    def write(self, changes: Iterable[tuple[str, bytes, bytes | None, bool]]) -> None:
        """Apply what a unit came to."""
        for table, key, value, _ in changes:
            entries, ordered = self.tables.setdefault(table, {}), self._ordered.get(table)
            if value is None:
                if entries.pop(key, None) is not None and ordered is not None:
                    del ordered[bisect.bisect_left(ordered, key)]
                continue
            if key not in entries and ordered is not None:
                bisect.insort(ordered, key)
            entries[key] = value


@dataclass(frozen=True, slots=True)
class Output:
    """A record that a unit emitted. `partition` is that of the topic it goes to."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class MemoryPartition:
    """One partition of a group whose state is in memory. Each call is one unit of work, committed at its end."""

    def __init__(self, group: Group, number: int) -> None:
        self._group, self.number = group, number
        self.store = MemoryStore()
        self.dead_letters: list[DeadLetter] = []
        self._memory: LruDict[Any, Any] = LruDict(MEMORY_ENTRIES)

    def process(self, records: Iterable[InputRecord], handlers: Mapping[str, Apply], *, now_us: int) -> list[Output]:
        """Apply records in order, each by the handler of its topic; answers what they emitted, in order per topic and partition."""
        unit = self._unit(now_us)
        for record in records:
            apply_all(self._group.name, (record,), handlers[record.topic], unit)
        return self._commit(unit)

    def punctuate(self, punctuate: Punctuate, *, now_us: int) -> list[Output]:
        """Do what time made due."""
        unit = self._unit(now_us)
        punctuate(unit)
        return self._commit(unit)

    def _unit(self, now_us: int) -> BatchUnit:
        return BatchUnit(
            partition=self.number,
            partitions=self._group.partitions,
            tables=frozenset(table.name for table in self._group.tables),
            store=self.store,
            memory=self._memory,
            partitions_of=self._group.partitions_of,
            dead_letter_topic=self._group.dead_letter_topic,
            now_us=now_us,
        )

    def _commit(self, unit: BatchUnit) -> list[Output]:
        self.store.write(unit.changes())
        self.dead_letters += unit.dead_letters
        return [
            Output(topic, partition, key, value)
            for (topic, partition), pairs in unit.records.items()
            for key, value in pairs
        ]
