"""Detects input topics and changelogs that were deleted, recreated or repartitioned while a worker reads them.

Offsets cannot show this: a recreated topic may already have more records than the old one. So topic ids are compared, which Kafka never
reuses. If Kafka still returns the old id after a batch was fetched, the batch is from the old topic. Every batch waits for such a response
before it has any effect, while later batches are fetched. Checks requested at the same time share one request. On a cluster the response
is as new as the broker's metadata, milliseconds behind the controller; a change that is missed in this time stops the worker at the next
response.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
"""How often topics are checked if no batch arrives."""
MISSING_GRACE_S: Final = 5.0
"""How long a topic may be missing from a broker's response: a broker that has just started may not know every topic yet."""
RETRY_S: Final = 0.1


class TopicMetadata(Protocol):
    """The metadata that `TopicWatch` reads. `KafkaLog` implements it."""

    async def ids(self, names: Mapping[str, object]) -> dict[str, uuid.UUID]:
        """Returns the ids of those topics that exist."""
        ...

    async def partition_counts(self, names: Mapping[str, object]) -> dict[str, int]:
        """Returns the partition counts of those topics that exist."""
        ...


@dataclass(frozen=True, slots=True)
class TopicChange:
    """A topic that changed. `now` is its id, or None if it is gone. `partitions` is the new count, if the count changed."""

    topic: str
    before: uuid.UUID
    now: uuid.UUID | None
    partitions: int | None = None


GUIDE: Final = "Nothing is skipped silently: `bankstream doctor` says what to do, and docs/DOCTOR.md why."


def expired(tp: TopicPartition, position: int, first: int) -> str:
    """Returns the message for a next record that Kafka no longer has."""
    return (
        f"{tp.topic}/{tp.partition} was processed through offset {position - 1}, but Kafka begins with {first}: records expired before "
        f"they were processed, offsets {position} to {first - 1}. {GUIDE}"
    )


def cut_short(tp: TopicPartition, position: int, end: int) -> str:
    """Returns the message for a topic with the same id that ends before the last processed record."""
    return (
        f"{tp.topic}/{tp.partition} was processed through offset {position - 1}, but Kafka ends with {end - 1}: it has lost offsets {end} "
        f"to {position - 1}, which had been committed. {GUIDE}"
    )


def repartitioned(topic: str, count: int, expected: int) -> str:
    """Returns the message for a changed partition count. New records of an input then hash to partitions that may not have their state;
    further partitions of a changelog were not written by this application.
    """
    return (
        f"topic {topic} has {count} partitions, but state was made with {expected} (BANKSTREAM_TOPIC_PARTITIONS): a key and its state "
        f"must be in partitions with the same number. {GUIDE}"
    )


def state_gone(tp: TopicPartition, committed: int, group_id: str) -> str:
    """Returns the message for a partition without a position although its group once committed one."""
    return (
        f"{tp.topic}/{tp.partition} was processed through offset {committed - 1} according to consumer group {group_id}, but it has no "
        f"state: its changelogs were deleted or recreated. {GUIDE}"
    )


def topic_recreated(change: TopicChange, durable: Mapping[int, int], ends: Mapping[int, int]) -> str:
    """Returns the message for a topic that is gone or recreated. By partition: `durable` positions in the old topic, `ends` of the new."""
    done = ", ".join(f"{number} through offset {position - 1}" for number, position in durable.items()) or "none"
    if change.now is None:
        return (
            f"topic {change.topic} (id {change.before}) is gone from Kafka. Processed partitions: {done}; its later records are "
            f"lost. {GUIDE}"
        )
    has = ", ".join(f"{number} through offset {end - 1}" for number, end in ends.items() if end) or "none"
    return (
        f"topic {change.topic} was recreated: its id was {change.before}, now it is {change.now}. Processed partitions of the "
        f"old topic: {done}; its later records are lost. Unprocessed partitions of the new topic: {has}. {GUIDE}"
    )


@dataclass(slots=True, eq=False)
class TopicWatch:
    """Checks that the topics in `ids` keep their ids, and that those in `counts` keep their partition counts."""

    topics: TopicMetadata
    ids: dict[str, uuid.UUID] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _asked: "asyncio.Task[TopicChange | None] | None" = None
    _next: "asyncio.Task[TopicChange | None] | None" = None

    def ask(self) -> "asyncio.Task[TopicChange | None]":
        """Returns a task that checks after this call; its result is None if nothing changed. Callers share it: await it shielded."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._asked), name="topics")
        return self._next

    async def next_change(self) -> TopicChange:
        """Waits for the next change and returns it. Checks every INTERVAL_S even if no batch arrives."""
        while True:
            if (change := await asyncio.shield(self.ask()) or await self._recount()) is not None:
                return change
            await asyncio.sleep(INTERVAL_S)

    async def close(self) -> None:
        """Cancel all checks."""
        tasks = [task for task in (self._asked, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _after(self, previous: "asyncio.Task[TopicChange | None] | None") -> TopicChange | None:
        if previous is not None:
            await asyncio.wait([previous])
        self._asked, self._next = self._next, None
        return await self._answer()

    async def _answer(self) -> TopicChange | None:
        missing_since: float | None = None
        while True:
            expected = dict(self.ids)
            try:
                found = await self.topics.ids(expected)
            except KafkaError as error:
                logger.info("Kafka did not return the topic ids: %r", error)
                await asyncio.sleep(RETRY_S)
                continue
            for topic, before in expected.items():
                if topic in found and found[topic] != before:
                    return TopicChange(topic, before, found[topic])
            missing = min(expected.keys() - found.keys(), default=None)
            if missing is None:
                return None
            if missing_since is None:
                missing_since = time.monotonic()
            elif time.monotonic() - missing_since > MISSING_GRACE_S:
                return TopicChange(missing, expected[missing], None)
            await asyncio.sleep(RETRY_S)

    async def _recount(self) -> TopicChange | None:
        expected = dict(self.counts)
        try:
            found = await self.topics.partition_counts(expected)
        except KafkaError as error:
            logger.info("Kafka did not return the partition counts: %r", error)
            return None
        for topic, count in found.items():
            if count != expected[topic] and topic in self.ids:
                return TopicChange(topic, self.ids[topic], self.ids[topic], count)
        return None
