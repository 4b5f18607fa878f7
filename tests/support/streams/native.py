"""Runs the same records through the agents and through their oracles in Python, and compares all effects.

BANKSTREAM_TEST_LIBRARY: the path of another build of the library. BANKSTREAM_NATIVE_EXAMPLES: factor for the number of examples.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agents import metrics
from agents.metrics import BatchedCounter
from app.config.settings import KafkaSettings, WorkerSettings
from app.domain.common_form import common_form
from app.domain.events import Event, Facts
from app.domain.records import TransactionRecord, VelocityRecord
from app.engine.batch_unit_of_work import Change
from app.engine.dead_letters import DeadLetter
from app.engine.memory import EmittedRecord, InMemoryKeyValueStore, MemoryPartition
from app.native.build import DIRECTORY, FILE
from app.native.history import NativeHistory, without_rules
from app.native.library import Library, open_library
from app.native.velocity import Screener
from app.topology.handlers import BoundGroup, build_topology
from tables.encoding import decode_number_key
from tables.velocity_events import EVENTS, decode_event
from tables.velocity_histories import HISTORIES, read_history
from tests.support.bank.cdc import Record
from tests.support.catalogue import CATALOGUE
from tests.support.oracle import topology
from tests.support.oracle.screening import Screening
from tests.support.oracle.velocity import KEPT

EXAMPLES: Final = int(os.environ.get("BANKSTREAM_NATIVE_EXAMPLES", "1"))
FIRST_SEED: Final = int(os.environ.get("BANKSTREAM_NATIVE_SEED", "0"))

UNKNOWN: Final = Facts(0, "", False, 0, 0, None, None, 0, 0)

LOCAL: Final = (HISTORIES.name, KEPT.name)
"""The tables that are in the store only: those of the agent and of its oracle differ."""


@cache
def library() -> Library:
    """The library."""
    path = Path(os.environ.get("BANKSTREAM_TEST_LIBRARY", DIRECTORY / FILE))
    return open_library(path)


def screen_natively(history: NativeHistory, record: TransactionRecord) -> Screening:
    """What the library makes of a record. Expired events have only their key."""
    screened = Screener(history.rules).screen(history, common_form(record), record.customer_id)
    assert screened is not None

    def event(key: bytes, facts: bytes = EVENTS.encode(UNKNOWN)) -> Event:
        return decode_event(key, EVENTS.decode(facts))[1]

    return Screening(
        kept=event(screened.key, screened.facts) if screened.facts else None,
        gone=event(screened.gone) if screened.gone else None,
        velocity=msgspec.json.decode(screened.velocity, type=VelocityRecord) if screened.velocity else None,
    )


@dataclass(slots=True)
class _Store(InMemoryKeyValueStore):
    """Keeps the last writes."""

    written: list[Change] = field(default_factory=list)

    def write(self, changes: Iterable[Change]) -> None:
        """Apply, and remember."""
        self.written = list(changes)
        InMemoryKeyValueStore.write(self, self.written)


@dataclass
class Done:
    """The effects of a batch in one group."""

    outputs: list[EmittedRecord]
    dead_letters: list[DeadLetter]
    written: list[Change]


class Worker:
    """The agents on partitions in memory. Outputs that are inputs of another group are processed as a batch."""

    def __init__(self, composed: Sequence[BoundGroup]) -> None:
        self.members = []
        for group, handlers in composed:
            partition = MemoryPartition(group, 0, keep_logs=True)
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
            done.append(
                Done(
                    outputs,
                    partition.dead_letters[buried:],
                    sorted(change for change in partition.store.written if change[0] not in LOCAL),
                )
            )
            derived = [
                self._derived(output) for output in outputs if output.topic in ("bank.transactions", "bank.control")
            ]
            if derived:
                done += self.take(derived, now_us)
        return done

    @property
    def tables(self) -> dict[tuple[str, str], dict[bytes, bytes]]:
        """What the changelogs have, by group and table."""
        return {
            (group.name, name): entries.values
            for group, _, partition in self.members
            for name, entries in partition.store.tables.items()
            if name not in LOCAL
        }

    @property
    def histories(self) -> dict[int, list[Event]]:
        """The stored events of every customer who has any."""
        (store,) = (partition.store for group, _, partition in self.members if group.name == "by-customer")
        found: dict[int, list[Event]] = defaultdict(list)
        for key, raw in store.scan(KEPT.name):
            customer_id, event = decode_event(key, KEPT.decode(raw))
            found[customer_id].append(event)
        for prefix, entries in groupby(store.scan(HISTORIES.name), lambda entry: entry[0][:8]):
            found[decode_number_key(prefix)[0]] += read_history(entries, without_rules())
        return found

    def _derived(self, output: EmittedRecord) -> Record:
        self.offsets[output.topic] += 1
        return Record(output.topic, output.value, output.key, output.partition, self.offsets[output.topic])


class ParityCheck:
    """The agents, and their oracles."""

    def __init__(self, cache_bytes: int) -> None:
        kafka = KafkaSettings().model_copy(update={"partitions": 1})
        settings = WorkerSettings()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.topology.handlers.load", library)
            patch.setattr("app.topology.handlers.MEBIBYTE", cache_bytes)
            self._agents = build_topology(CATALOGUE, settings, kafka)
        self._oracles = topology.oracles(self._agents, settings)

    def worker(self) -> Worker:
        """The agents, with nothing in their tables."""
        return Worker(self._agents)

    def check(self, batches: Sequence[Sequence[Record]], of: object = "") -> list[Done]:
        """Process batches from nothing, by both; answers what they came to, which must be the same. `of`: for the error's message."""
        mine, its = Worker(self._oracles), self.worker()
        begin = _counts()
        expected = [mine.take(batch, 0) for batch in batches]
        between = _counts()
        found = [its.take(batch, 0) for batch in batches]
        end = _counts()
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            assert one == other, f"{of}, batch {number}: {batches[number]}"
        assert mine.tables == its.tables, of
        assert mine.histories == its.histories, of
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
