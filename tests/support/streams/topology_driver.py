"""Runs the streams worker's agents on partitions in memory: input records in, derived records out. One partition per group."""

import json
from collections.abc import Iterable
from typing import Any

from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import Catalogue
from app.domain.captured import CapturedTable
from app.engine.memory import EmittedRecord, MemoryPartition
from app.topology.handlers import build_topology
from tests.support.bank.cdc import Record
from tests.support.catalogue import CATALOGUE


class TopologyDriver:
    """Runs every group. Outputs that are inputs (transactions, control) are processed at once."""

    def __init__(self, *declared: CapturedTable, **settings: Any) -> None:
        """`declared`: captured tables beside the bank's own."""
        kafka = KafkaSettings().model_copy(update={"partitions": 1})
        composed = build_topology(Catalogue((*CATALOGUE.tables, *declared)), WorkerSettings(**settings), kafka)
        self.members = [(group, handlers, MemoryPartition(group, 0)) for group, handlers in composed]
        self.outputs: list[EmittedRecord] = []
        self.offsets: dict[str, int] = {}

    def take(self, *records: Record, now_us: int = 0) -> list[EmittedRecord]:
        """Processes records, each in a separate unit of work. Returns the emitted records."""
        before = len(self.outputs)
        for record in records:
            self._take(record, now_us)
        return self.outputs[before:]

    def punctuate(self, now_us: int) -> None:
        """Runs the actions that are due by time."""
        for group, _, partition in self.members:
            if group.punctuate is not None:
                self._emitted(partition.punctuate(group.punctuate, now_us=now_us), now_us)

    def pass_barriers(self) -> list[EmittedRecord]:
        """Passes all offset barriers. Returns the emitted records."""
        before = len(self.outputs)
        for _, _, partition in self.members:
            self._emitted(partition.pass_barriers(now_us=0), 0)
        return self.outputs[before:]

    def values(self, topic: str) -> list[dict[str, Any]]:
        """The values emitted to a topic so far."""
        return [
            json.loads(output.value, parse_int=_integer)
            for output in self.outputs
            if output.topic == topic and output.value is not None
        ]

    @property
    def reasons(self) -> list[str]:
        """The reasons of the dead letters so far."""
        return [letter.reason for _, _, partition in self.members for letter in partition.dead_letters]

    def _take(self, record: Record, now_us: int) -> None:
        for group, handlers, partition in self.members:
            if record.topic in group.topics:
                self._emitted(partition.process([record], handlers, now_us=now_us), now_us)

    def _emitted(self, outputs: Iterable[EmittedRecord], now_us: int) -> None:
        for output in outputs:
            self.outputs.append(output)
            offset = self.offsets[output.topic] = self.offsets.get(output.topic, -1) + 1
            self._take(Record(output.topic, output.value, output.key, output.partition, offset), now_us)


def _integer(text: str) -> int | str:
    """Converts an integer of any length. Python refuses integers of more than a few thousand digits; JSON has no such limit."""
    return int(text) if len(text) < 1_000 else text
