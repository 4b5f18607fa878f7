"""Whether the topics being read are still the ones that were opened: a topic deleted and made anew may already have more records than
the old one, so its offsets alone tell nothing.

An answer of Kafka that comes after a batch was fetched, and still names the old id, proves that the batch is of the old topic: ids never
return. So every batch waits for such an answer before it has any effect, while the batches behind it are fetched; questions that are put
at the same time share one request. On a cluster the answer is as new as the asked broker's metadata, milliseconds behind the controller;
what slips through stops the worker at the next answer.
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
"""How often it is asked although no batch comes."""
MISSING_GRACE_S: Final = 5.0
"""How long a topic may be unknown to the broker that is asked: one that has just started may not know all yet."""
RETRY_S: Final = 0.1


class TopicMetadata(Protocol):
    """What has to be asked; `KafkaLog` answers it."""

    async def ids(self, names: Mapping[str, object]) -> dict[str, uuid.UUID]:
        """The ids of those topics that exist."""
        ...

    async def partition_counts(self, names: Mapping[str, object]) -> dict[str, int]:
        """The partition counts of those topics that exist."""
        ...


@dataclass(frozen=True, slots=True)
class TopicChange:
    """A topic that is not what it was. `now` None: it is gone. `partitions`: how many it has now, if that is what changed."""

    topic: str
    before: uuid.UUID
    now: uuid.UUID | None
    partitions: int | None = None


GUIDE: Final = "Nothing is skipped silently: `bankstream doctor` says what to do, and docs/DOCTOR.md why."


def expired(tp: TopicPartition, position: int, first: int) -> str:
    """Kafka no longer has the next record."""
    return (
        f"{tp.topic}/{tp.partition} was processed through offset {position - 1}, but Kafka begins with {first}: records expired before "
        f"they were processed, offsets {position} to {first - 1}. {GUIDE}"
    )


def cut_short(tp: TopicPartition, position: int, end: int) -> str:
    """Kafka ends before what was processed, though the topic is the same."""
    return (
        f"{tp.topic}/{tp.partition} was processed through offset {position - 1}, but Kafka ends with {end - 1}: it has lost offsets {end} "
        f"to {position - 1}, which had been committed. {GUIDE}"
    )


def repartitioned(topic: str, count: int, expected: int) -> str:
    """Keys of new records may be elsewhere than their state: of an input they are, and a changelog's writer was not us."""
    return (
        f"topic {topic} has {count} partitions, but state was made with {expected} (BANKSTREAM_TOPIC_PARTITIONS): a key and its state "
        f"have to be on partitions of one number. {GUIDE}"
    )


def state_gone(tp: TopicPartition, committed: int, group_id: str) -> str:
    """There is no position where there was one."""
    return (
        f"{tp.topic}/{tp.partition} was processed through offset {committed - 1}, as consumer group {group_id} says, but there is no state "
        f"of that: its changelogs were deleted or created anew. {GUIDE}"
    )


def topic_recreated(change: TopicChange, durable: Mapping[int, int], ends: Mapping[int, int]) -> str:
    """A topic is gone or was created anew. By partition: the positions in the old one, and where the new one ends."""
    done = ", ".join(f"{number} through offset {position - 1}" for number, position in durable.items()) or "none"
    if change.now is None:
        return (
            f"topic {change.topic} (id {change.before}) is gone from Kafka. Of its partitions were processed: {done}; what it had behind "
            f"that is lost. {GUIDE}"
        )
    has = ", ".join(f"{number} through offset {end - 1}" for number, end in ends.items() if end) or "none"
    return (
        f"topic {change.topic} was created anew: its id was {change.before}, now it is {change.now}. Of the old one's partitions were "
        f"processed: {done}; what it had behind that is lost. The new one has, all unprocessed: {has}. {GUIDE}"
    )


@dataclass(slots=True, eq=False)
class TopicWatch:
    """Asks Kafka about the topics in `ids`; those in `counts` must also keep their partition counts."""

    topics: TopicMetadata
    ids: dict[str, uuid.UUID] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _asked: "asyncio.Task[TopicChange | None] | None" = None
    _next: "asyncio.Task[TopicChange | None] | None" = None

    def ask(self) -> "asyncio.Task[TopicChange | None]":
        """The answer to a question that is put after this moment; None: nothing has changed. Await it shielded, it is shared."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._asked), name="topics")
        return self._next

    async def next_change(self) -> TopicChange:
        """The next change, whether batches come or not."""
        while True:
            if (change := await asyncio.shield(self.ask()) or await self._recount()) is not None:
                return change
            await asyncio.sleep(INTERVAL_S)

    async def close(self) -> None:
        """Ask no more."""
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
                logger.info("Kafka does not say what topics it has: %r", error)
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
            logger.info("Kafka does not say how many partitions its topics have: %r", error)
            return None
        for topic, count in found.items():
            if count != expected[topic] and topic in self.ids:
                return TopicChange(topic, self.ids[topic], self.ids[topic], count)
        return None
