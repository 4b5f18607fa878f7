"""What the engine runs: one processor per partition that this worker owns. One contract, several kinds of place for the effects."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from app.engine import metrics
from app.engine.committed_state import CommittedState
from app.engine.partition_group import GroupPartition, RecordHandler, TopicRecords
from app.engine.unit_of_work import InputRecord
from app.errors import BankstreamError


class Processor(Protocol):
    """The owner of one partition: opens where the effects are, says how far they got, processes batches, closes.

    The position lives with the effects; the consumer group's offsets decide nothing.
    """

    async def open(self) -> None:
        """Learn the positions. Raises when going on would lose or double something."""
        ...

    def position(self, topic: str) -> int | None:
        """The next offset of an input topic to hand to `process`; None: nothing was processed yet."""
        ...

    def durable_position(self, topic: str) -> int | None:
        """The first offset whose effects could still be lost by a crash; for lag monitoring."""
        ...

    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """The topics that have to stay what they are while this is open, with Kafka's ids of them: inputs, and what state is made of."""
        ...

    async def process(self, batches: Sequence[TopicRecords]) -> None:
        """Process batches, in this order. May take as long as backpressure demands."""
        ...

    async def punctuate(self) -> None:
        """Do what time alone made due. Called often; must be cheap when there is nothing to do."""
        ...

    async def close(self) -> None:
        """Let go. What is unfinished is redone by the next owner."""
        ...


class TransactionalProcessor:
    """A partition of a group whose effects are Kafka transactions. `handlers` has the logic for each input topic."""

    def __init__(self, partition: GroupPartition, handlers: dict[str, RecordHandler]) -> None:
        self._partition, self._handlers = partition, handlers

    async def open(self) -> None:
        """Fence, restore, learn the positions."""
        await self._partition.open()

    def position(self, topic: str) -> int | None:
        """The next offset to process, as of the last committed transaction."""
        return self._partition.position(topic)

    durable_position = position

    def committed(self) -> CommittedState | None:
        """The state for a reader, until the next `await`."""
        return self._partition.committed()

    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """Inputs and changelogs."""
        return self._partition.topic_ids

    async def process(self, batches: Sequence[TopicRecords]) -> None:
        """One transaction for all of them: at a trickle, most of its time is the broker's."""
        await self._partition.process(batches, self._handlers)

    async def punctuate(self) -> None:
        """The group's own punctuation."""
        await self._partition.punctuate()

    async def close(self) -> None:
        """After the transaction under way."""
        await self._partition.close()


class SinkPartition(Protocol):
    """One partition of one topic on its way into a sink. The engine opens it, feeds it in offset order and closes it.

    A failure that a retry cannot mend, or that outlasted the retries, ends the process (`exits.die`): nothing that was taken and
    not made durable is acknowledged anywhere, so the next owner gets it again.
    """

    async def open(self) -> int | None:
        """Ask the destination how far it got: the offset to go on from; None: the earliest that Kafka has. Raises when it cannot tell."""
        ...

    @property
    def position(self) -> int | None:
        """The first offset whose effects are not durable yet; None while nothing is known."""
        ...

    @property
    def topic_id(self) -> uuid.UUID | None:
        """Kafka's id of the topic that the position is about, known once open; None: any topic of that name will do."""
        ...

    async def process(self, records: Sequence[InputRecord]) -> None:
        """Take records. They need not be durable on return: `position` says what is. Waiting here holds back this partition alone."""
        ...

    async def close(self) -> None:
        """Stop. What is not durable is dropped, and taken again by the next owner; a write under way may still happen."""
        ...


class SinkProcessor:
    """Adapts a sink's partition of one topic. What it has taken and what is durable are two positions."""

    def __init__(self, topic: str, partition: SinkPartition) -> None:
        self._topic, self._partition = topic, partition
        self._taken: int | None = None

    async def open(self) -> None:
        """Ask the destination how far it got."""
        self._taken = await self._partition.open()

    def position(self, topic: str) -> int | None:
        """The next offset to hand over."""
        self._check(topic)
        return self._taken

    def durable_position(self, topic: str) -> int | None:
        """The first offset not durable."""
        self._check(topic)
        return self._partition.position

    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """The topic."""
        topic_id = self._partition.topic_id
        return {} if topic_id is None else {self._topic: topic_id}

    async def process(self, batches: Sequence[TopicRecords]) -> None:
        """Hand over what is new."""
        for topic, records in batches:
            self._check(topic)
            fresh = [record for record in records if self._taken is None or record.offset >= self._taken]
            if fresh:
                await self._partition.process(fresh)
                self._taken = fresh[-1].offset + 1
                metrics.RECORDS.labels(topic).inc(len(fresh))

    async def punctuate(self) -> None:
        """Sinks keep their own time."""

    async def close(self) -> None:
        """Stop."""
        await self._partition.close()

    def _check(self, topic: str) -> None:
        if topic != self._topic:
            raise BankstreamError(f"processor of {self._topic} was asked about {topic}")
