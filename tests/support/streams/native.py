"""Runs the same records through the agents with and without the native library, and compares all effects.

BANKSTREAM_TEST_LIBRARY: the path of another build of the library. BANKSTREAM_NATIVE_EXAMPLES: factor for the number of examples.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from agents import metrics
from agents.metrics import BatchedCounter
from app.config.settings import KafkaSettings, WorkerSettings
from app.domain.velocity import CustomerHistory
from app.engine.dead_letters import DeadLetter
from app.engine.memory import EmittedRecord, InMemoryKeyValueStore, MemoryPartition
from app.native.build import DIRECTORY, FILE
from app.native.library import Library, open_library
from app.topology.handlers import BoundGroup, build_topology
from tables.velocity_events import HistoryCache
from tests.support.bank.cdc import Record
from tests.support.catalogue import CATALOGUE

EXAMPLES: Final = int(os.environ.get("BANKSTREAM_NATIVE_EXAMPLES", "1"))
FIRST_SEED: Final = int(os.environ.get("BANKSTREAM_NATIVE_SEED", "0"))

Written = tuple[str, bytes, bytes | None, bool]
"""Table, key, value, and whether the write is in the changelog."""


@cache
def library() -> Library:
    """The library. Fails if it is not built."""
    path = Path(os.environ.get("BANKSTREAM_TEST_LIBRARY", DIRECTORY / FILE))
    found = open_library(path)
    assert found is not None, f"{path} is not there or of other sources: python -m app.native.build"
    return found


@dataclass(slots=True)
class _Store(InMemoryKeyValueStore):
    """Keeps the last writes."""

    written: list[Written] = field(default_factory=list)

    def write(self, changes: Iterable[Written]) -> None:
        """Applies writes, and keeps them."""
        self.written = list(changes)
        InMemoryKeyValueStore.write(self, self.written)


@dataclass
class Done:
    """The effects of a batch in one group."""

    outputs: list[EmittedRecord]
    dead_letters: list[DeadLetter]
    written: list[Written]


class Worker:
    """The agents on partitions in memory. Outputs that are inputs of another group are processed as a batch."""

    def __init__(self, composed: Sequence[BoundGroup]) -> None:
        self.members = []
        for group, handlers in composed:
            partition = MemoryPartition(group, 0)
            partition.store = _Store()
            self.members.append((group, handlers, partition))
        self.offsets: Counter[str] = Counter()

    def take(self, batch: Sequence[Record], now_us: int) -> list[Done]:
        """Processes a batch in one unit of work for each group that reads any of its records."""
        done: list[Done] = []
        for group, handlers, partition in self.members:
            mine = [record for record in batch if record.topic in group.topics]
            if not mine:
                continue
            buried = len(partition.dead_letters)
            outputs = partition.process(mine, handlers, now_us=now_us)
            assert isinstance(partition.store, _Store)
            done.append(Done(outputs, partition.dead_letters[buried:], sorted(partition.store.written)))
            derived = [
                self._derived(output) for output in outputs if output.topic in ("bank.transactions", "bank.control")
            ]
            if derived:
                done += self.take(derived, now_us)
        return done

    def history(self, customer_id: int) -> CustomerHistory:
        """A customer's history in memory."""
        (partition,) = (partition for group, _, partition in self.members if group.name == "by-customer")
        histories = partition._memory["velocity"]
        assert isinstance(histories, HistoryCache)
        history = histories.take(customer_id)
        assert history is not None
        histories.put(customer_id, history, history.size)
        return history

    @property
    def tables(self) -> dict[tuple[str, str], dict[bytes, bytes]]:
        """All stored entries, by group and table."""
        return {
            (group.name, name): entries.values
            for group, _, partition in self.members
            for name, entries in partition.store.tables.items()
        }

    def _derived(self, output: EmittedRecord) -> Record:
        self.offsets[output.topic] += 1
        return Record(output.topic, output.value, output.key, output.partition, self.offsets[output.topic])


class ParityCheck:
    """Runs the agents without and with the library."""

    def __init__(self, cached_events: int) -> None:
        kafka = KafkaSettings().model_copy(update={"partitions": 1})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.topology.handlers.load", library)
            self._composed = tuple(
                build_topology(CATALOGUE, WorkerSettings(native=native, velocity_cached_events=cached_events), kafka)
                for native in (False, True)
            )

    def worker(self, *, native: bool) -> Worker:
        """One of them with empty tables."""
        return Worker(self._composed[native])

    def check(self, batches: Sequence[Sequence[Record]], of: object = "") -> list[Done]:
        """Processes batches by both with empty tables, and returns their effects, which must be equal. `of` is for the error message."""
        mine, its = self.worker(native=False), self.worker(native=True)
        begin = _counts()
        expected = [mine.take(batch, 0) for batch in batches]
        between = _counts()
        found = [its.take(batch, 0) for batch in batches]
        end = _counts()
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            assert one == other, f"{of}, batch {number}: {batches[number]}"
        assert mine.tables == its.tables, of
        assert between - begin == end - between, of
        return [done for batch in found for done in batch]


def _counts() -> Counter[tuple[str, ...]]:
    return Counter({
        (counter.name, *labels): count
        for counter in (_Named("changes", metrics.CHANGES), _Named("rules", metrics.RULES))
        for labels, count in counter.counts().items()
    })  # fmt: skip


@dataclass(frozen=True)
class _Named:
    name: str
    counter: BatchedCounter

    def counts(self) -> dict[tuple[str, ...], int]:
        """Its metrics."""
        samples = next(iter(self.counter.collect())).samples
        return {tuple(it.labels.values()): int(it.value) for it in samples if it.name.endswith("_total")}
