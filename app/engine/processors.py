"""Defines the processor of one partition, which the engine runs, and its two kinds: transactional (to Kafka) and sink."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from app.engine import metrics
from app.engine.committed_state import CommittedState
from app.engine.partition_group import GroupPartition, RecordHandler, TopicRecords
from app.engine.unit_of_work import InputRecord
from app.errors import BankstreamError


class Processor(Protocol):
    """Processes one partition on the worker that owns it.

    The position is stored together with the effects. The consumer group's offsets are not used.
    """

    async def open(self) -> None:
        """Reads the positions. Raises if processing from there would lose or duplicate records."""
        ...

    def position(self, topic: str) -> int | None:
        """Returns the next offset of an input topic to pass to `process`; None if nothing was processed yet."""
        ...

    def durable_position(self, topic: str) -> int | None:
        """Returns the first offset whose effects are not durable, so that a crash would lose them. For lag monitoring."""
        ...

    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """Returns Kafka's ids, by name, of the topics that must not be recreated while this is open: inputs and changelogs."""
        ...

    async def process(self, batches: Sequence[TopicRecords]) -> None:
        """Processes batches in this order. Waits under backpressure."""
        ...

    async def punctuate(self) -> None:
        """Runs time-driven work that is due. It is called often and must be cheap when nothing is due."""
        ...

    async def close(self) -> None:
        """Releases the partition. The next owner repeats unfinished work."""
        ...


class TransactionalProcessor:
    """Processes a partition of a group and commits its effects in Kafka transactions. `handlers` has one handler for each input topic."""

    def __init__(self, partition: GroupPartition, handlers: dict[str, RecordHandler]) -> None:
        self._partition, self._handlers = partition, handlers

    async def open(self) -> None:
        """Fences the previous owner, restores the state and reads the positions."""
        await self._partition.open()

    def position(self, topic: str) -> int | None:
        """Returns the next offset to process, as of the last committed transaction."""
        return self._partition.position(topic)

    durable_position = position

    def committed(self) -> CommittedState | None:
        """Returns the committed state for a reader. Use it only until the next `await`."""
        return self._partition.committed()

    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """Returns the ids of inputs and changelogs."""
        return self._partition.topic_ids

    async def process(self, batches: Sequence[TopicRecords]) -> None:
        """Processes all batches in one transaction, because at low rates the broker's work per transaction takes most of the time."""
        await self._partition.process(batches, self._handlers)

    async def punctuate(self) -> None:
        """Runs the group's punctuation."""
        await self._partition.punctuate()

    async def close(self) -> None:
        """Closes after the running transaction."""
        await self._partition.close()


class SinkPartition(Protocol):
    """Writes one partition of one topic to a sink. The engine opens it, passes it records in offset order and closes it.

    A failure that retries cannot solve ends the process (`exits.die`). Records that were taken but are not durable are acknowledged
    nowhere, so the next owner gets them again.
    """

    async def open(self) -> int | None:
        """Returns the offset to continue from, read from the destination; None: the earliest in Kafka. Raises if it is not known."""
        ...

    @property
    def position(self) -> int | None:
        """The first offset whose effects are not durable yet; None while it is not known."""
        ...

    @property
    def topic_id(self) -> uuid.UUID | None:
        """Kafka's id of the topic that the position belongs to, known once open; None if the topic may be recreated."""
        ...

    async def process(self, records: Sequence[InputRecord]) -> None:
        """Takes records. They need not be durable on return: `position` is the first that is not. Waiting delays this partition only."""
        ...

    async def close(self) -> None:
        """Stops. Records that are not durable are dropped, and the next owner takes them again. A write in progress may still complete."""
        ...


class SinkProcessor:
    """Adapts a sink's partition of one topic to `Processor`. The offset taken and the durable offset are two positions."""

    def __init__(self, topic: str, partition: SinkPartition) -> None:
        self._topic, self._partition = topic, partition
        self._taken: int | None = None

    async def open(self) -> None:
        """Reads the position from the destination."""
        self._taken = await self._partition.open()

    def position(self, topic: str) -> int | None:
        """Returns the next offset to pass to the sink."""
        self._check(topic)
        return self._taken

    def durable_position(self, topic: str) -> int | None:
        """Returns the first offset whose effects are not durable."""
        self._check(topic)
        return self._partition.position

    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """Returns the id of the topic, if it must not be recreated."""
        topic_id = self._partition.topic_id
        return {} if topic_id is None else {self._topic: topic_id}

    async def process(self, batches: Sequence[TopicRecords]) -> None:
        """Passes new records to the sink."""
        for topic, records in batches:
            self._check(topic)
            fresh = [record for record in records if self._taken is None or record.offset >= self._taken]
            if fresh:
                await self._partition.process(fresh)
                self._taken = fresh[-1].offset + 1
                metrics.RECORDS.labels(topic).inc(len(fresh))

    async def punctuate(self) -> None:
        """Does nothing: sinks have timers of their own."""

    async def close(self) -> None:
        """Closes the sink's partition."""
        await self._partition.close()

    def _check(self, topic: str) -> None:
        if topic != self._topic:
            raise BankstreamError(f"processor of {self._topic} was asked about {topic}")
