"""Runs a replay: feeds the streams worker's groups, on memory, in the order of the files. The clock is each record's timestamp.

One partition for each group is sufficient: records are applied in file order, and the logic depends only on the order within a key.
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Final

from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import CONTROL, TRANSACTIONS, Catalogue
from app.engine.memory import EmittedRecord, MemoryPartition
from app.engine.partition_group import PartitionGroup
from app.proof.replay.outputs import Outputs
from app.proof.replay.recording import Recorded
from app.topology.handlers import Handlers, build_topology

_timestamp: Final = attrgetter("timestamp")
CHUNK: Final = 1_000
"""Input records in each unit of work. Waiting records expire between two units, so the value affects the (deterministic) output."""
CACHE_MB: Final = 512
"""The minimum memory for customers' histories, in addition to the state. Histories that do not fit are read again and again."""


@dataclass
class _BoundGroup:
    group: PartitionGroup
    handlers: Handlers
    partition: MemoryPartition


@dataclass
class Summary:
    """The result of a replay."""

    records: int = 0
    outputs: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    """The number of dead letters by reason."""
    waiting: int = 0
    """The number of transactions whose account never arrived."""


class Replay:
    """A replay. Call `run` with the records."""

    def __init__(self, catalogue: Catalogue, settings: WorkerSettings) -> None:
        self.inputs = frozenset(topic.name for topic in catalogue.cdc)
        """The topics that it reads; records of other topics are skipped."""
        self.outputs = tuple(topic.name for topic in catalogue.derived)
        """The topics that it writes."""
        single = KafkaSettings().model_copy(update={"partitions": 1})
        cached = max(CACHE_MB, settings.velocity_cache_mb)
        settings = settings.model_copy(update={"velocity_cache_mb": cached})
        self._members = [
            _BoundGroup(group, handlers, MemoryPartition(group, 0))
            for group, handlers in build_topology(catalogue, settings, single)
        ]
        self._accounts, self._customers, *_ = self._members
        self._of_topic = {topic: member for member in self._members for topic in member.group.topics}
        self._derived = 0

    def run(self, records: Iterable[Recorded], outputs: Outputs) -> Summary:
        """Processes all records and writes the emitted ones."""
        with _rare_collections():
            return self._run(records, outputs)

    def _run(self, records: Iterable[Recorded], outputs: Outputs) -> Summary:
        summary = Summary()
        latest_ms = 0
        for chunk in _chunks(records):
            summary.records += len(chunk)
            chunk_ms = max(map(_timestamp, chunk))
            latest_ms = max(latest_ms, chunk_ms)
            self._process(chunk, chunk_ms * 1000, outputs)
        for member in (
            self._members
        ):  # a file may have its partitions one after another, so missing records are known only at its end
            self._emitted(member.partition.pass_barriers(now_us=latest_ms * 1000), outputs)
        for member in self._members:
            for letter in member.partition.dead_letters:
                summary.dead_letters[letter.reason] = summary.dead_letters.get(letter.reason, 0) + 1
        summary.waiting = sum(1 for _ in self._accounts.partition.store.scan("waiting"))
        summary.outputs = dict(outputs.counts)
        return summary

    def _process(self, chunk: list[Recorded], latest_us: int, outputs: Outputs) -> None:
        for member, run in self._runs(chunk):
            following = iter(run)  # a table command is applied before the records after the one that triggered it
            while emitted := member.partition.process(following, member.handlers, until=CONTROL.name):
                self._emitted(emitted, outputs)
        if self._accounts.group.punctuate is not None:
            expired = self._accounts.partition.punctuate(self._accounts.group.punctuate, now_us=latest_us)
            self._emitted(expired, outputs)

    def _runs(self, chunk: list[Recorded]) -> Iterator[tuple[_BoundGroup, list[Recorded]]]:
        """Yields runs of consecutive records of one group."""
        run: list[Recorded] = []
        current, of_topic = self._of_topic[chunk[0].topic], self._of_topic
        for record in chunk:
            member = of_topic[record.topic]
            if member is not current:
                yield current, run
                current, run = member, []
            run.append(record)
        yield current, run

    def _emitted(self, emitted: list[EmittedRecord], outputs: Outputs) -> None:
        """Writes the output records. Forwards table commands to all groups, and transactions to the customers' group."""
        by_topic: dict[str, list[EmittedRecord]] = {}
        for output in emitted:
            of_topic = by_topic.get(output.topic)
            if of_topic is None:
                by_topic[output.topic] = [output]
            else:
                of_topic.append(output)
        commands = [self._recorded(output) for output in by_topic.pop(CONTROL.name, ())]
        for topic, of_topic in by_topic.items():
            outputs.write(topic, of_topic)
        if passed := [self._recorded(output) for output in by_topic.get(TRANSACTIONS.name, ())]:
            self._emitted(self._customers.partition.process(passed, self._customers.handlers), outputs)
        for member in self._members if commands else ():
            self._emitted(member.partition.process(commands, member.handlers), outputs)

    def _recorded(self, output: EmittedRecord) -> Recorded:
        self._derived += 1
        return Recorded(output.topic, 0, self._derived, output.timestamp, output.key, output.value, ())


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collects garbage rarely: a replay's growing state has no cycles, and the default thresholds would take a tenth of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _chunks(records: Iterable[Recorded]) -> Iterator[list[Recorded]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
