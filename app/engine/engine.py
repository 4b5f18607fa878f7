"""Opens, feeds, drains and closes the partitions that the consumer group assigns to this worker."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from aiokafka import TopicPartition

from app.config.settings import EngineSettings, KafkaSettings
from app.engine import metrics
from app.engine.committed_state import CommittedState
from app.engine.continuity import (
    TopicChange,
    TopicWatch,
    cut_short,
    expired,
    repartitioned,
    state_gone,
    topic_recreated,
)
from app.engine.exits import die
from app.engine.kafka import KafkaLog
from app.engine.processors import Processor, TransactionalProcessor
from app.engine.unit_of_work import InputRecord
from app.errors import ContinuityError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subtopology:
    """A set of co-partitioned topics. One processor, which `factory` creates, processes the partitions with the same number.

    `partitions` is the partition count that the topics must have, because the state was built with it; None: any. `group_id` is the
    consumer group whose committed offsets show that state once existed; None: there is no state.
    """

    name: str
    topics: tuple[str, ...]
    factory: Callable[[int], Processor]
    partitions: int | None = None
    group_id: str | None = None


@dataclass(slots=True, eq=False)
class Cursor:
    """The read position of a topic partition since its last seek. A batch that belongs to an older cursor is stale and is fetched again."""

    next: int
    """The offset after the last record fetched."""
    pending: int = 0
    """Batches fetched and not yet processed."""


@dataclass(slots=True, eq=False)
class Batch:
    """Consecutive records of one topic partition, from one fetch. `begin` is the offset at which the fetch began.

    Offsets may be missing after it, because of compaction, aborted transactions and control records.
    """

    tp: TopicPartition
    cursor: Cursor
    begin: int
    records: Sequence[InputRecord]
    unfinished: int
    """The number of processors that have not finished the batch: a topic can belong to several subtopologies."""
    change: "asyncio.Task[TopicChange | None]"
    """The check, begun after the fetch, whether the topics are still the same."""

    def done(self) -> None:
        """Record that one processor has finished the batch."""
        self.unfinished -= 1
        if self.unfinished == 0:
            self.cursor.pending -= 1


@dataclass(slots=True)
class _Open:
    processor: Processor
    queue: "asyncio.Queue[Batch]" = field(default_factory=asyncio.Queue)  # bounded by MAX_PENDING batches a topic
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


MAX_PENDING = 2
"""The number of batches of one topic partition in memory: one is processed while the next is fetched."""


class Engine:
    """Owns the processors. All methods run on the worker's event loop."""

    def __init__(self, kafka: KafkaSettings, settings: EngineSettings) -> None:
        self.kafka, self.settings = kafka, settings
        self.log = KafkaLog(kafka)
        self.cursors: dict[TopicPartition, Cursor] = {}
        self._subtopologies: list[Subtopology] = []
        self._open: dict[tuple[str, int], _Open] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._watch = TopicWatch(self.log)
        self._watching: asyncio.Task[None] | None = None
        self._closing = False

    def add(self, subtopology: Subtopology) -> None:
        """Declare a subtopology, before the worker starts."""
        self._subtopologies.append(subtopology)

    @property
    def topics(self) -> tuple[str, ...]:
        """Every input topic, once."""
        return tuple(dict.fromkeys(chain.from_iterable(subtopology.topics for subtopology in self._subtopologies)))

    @property
    def closing(self) -> bool:
        """True once `close` has begun; errors after that are caused by closing."""
        return self._closing

    async def check(self) -> None:
        """Raises ContinuityError if an input topic is missing, or if the topics of a subtopology have unequal partition counts, or a count
        other than its state was built with.
        """
        infos = await self.log.require(self.topics)
        for subtopology in self._subtopologies:
            counts = {topic: infos[topic].partitions for topic in subtopology.topics}
            if len(set(counts.values())) != 1:
                raise ContinuityError(
                    f"the topics of {subtopology.name} must have equal partition counts, but have {counts}"
                )
            if subtopology.partitions is not None and subtopology.partitions not in counts.values():
                raise ContinuityError(
                    repartitioned(subtopology.topics[0], counts[subtopology.topics[0]], subtopology.partitions)
                )

    async def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Close revoked partitions and open new ones. Partitions that stay assigned remain open."""
        numbers: dict[str, set[int]] = {}
        for tp in assigned:
            numbers.setdefault(tp.topic, set()).add(tp.partition)
        wanted: dict[tuple[str, int], Subtopology] = {}
        for subtopology in self._subtopologies:
            shared = [numbers.get(topic, set()) for topic in subtopology.topics]
            if any(part != shared[0] for part in shared):
                raise ContinuityError(f"the assignment is not co-partitioned for {subtopology.name}: {numbers}")
            wanted |= {(subtopology.name, number): subtopology for number in shared[0]}
        await asyncio.gather(*(self._close(key) for key in self._open.keys() - wanted.keys()))
        await self._open_all({key: wanted[key] for key in wanted.keys() - self._open.keys()})
        for subtopology in self._subtopologies:
            metrics.OPEN_PARTITIONS.labels(subtopology.name)  # exported, even as 0, once the group is joined

    async def drain(self) -> None:
        """Mark all fetched batches as stale and wait until none is being processed. Called before a rebalance.

        A processor that is still busy after `drain_timeout_s` (for example because its sink is unavailable) is closed unfinished, so that
        the group does not wait for it. The next owner processes again what was not durable.
        """
        self.cursors.clear()
        await asyncio.gather(*(self._drain_one(key, one) for key, one in list(self._open.items())))

    async def close(self) -> None:
        """Finish the batches being processed, then close all partitions and the connection to Kafka."""
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
        for task in self._opening:
            task.cancel()  # restoring a large state may take minutes and is no longer needed
        await asyncio.gather(*self._opening, return_exceptions=True)
        await self.drain()
        await asyncio.gather(*(self._close(key) for key in list(self._open)))
        await self._watch.close()
        await self.log.stop()

    async def seek_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the offset from which to read each of these partitions, and sets a new cursor there. The caller seeks.

        Raises ContinuityError if records would be skipped: Kafka no longer has the next record, never had it, or has another topic of that
        name.
        """
        tps = [tp for tp in tps if self._owners(tp)]
        self._expect()
        if not tps:
            return {}
        if (change := await asyncio.shield(self._watch.ask())) is not None:
            raise await self._changed(change)
        first, end = await self.log.beginning(tps), await self.log.end(tps)
        await self._check_state(tps, first, end)
        targets: dict[TopicPartition, int] = {}
        for tp in tps:
            positions = [one.processor.position(tp.topic) for _, one in self._owners(tp)]
            if not positions:
                continue  # revoked during the requests above: its new owner seeks it
            known = [first[tp] if position is None else position for position in positions]
            target = min(known)
            if target < first[tp]:
                raise ContinuityError(expired(tp, target, first[tp]))
            if target > end[tp]:
                raise ContinuityError(cut_short(tp, target, end[tp]))
            if target > 0 and None in positions:
                logger.warning("%s/%d is read from offset %d on: Kafka does not have earlier records", *tp, target)
            targets[tp] = target
            self.cursors[tp] = Cursor(target)
        return targets

    def fetchable(self, tps: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Returns those partitions that may be fetched: they have a cursor and fewer than MAX_PENDING batches in memory."""
        return {tp for tp in tps if (cursor := self.cursors.get(tp)) is not None and cursor.pending < MAX_PENDING}

    def fetched(self, tp: TopicPartition, cursor: Cursor, records: Sequence[InputRecord]) -> Batch:
        """Returns the batch of a fetch that began at the cursor, and advances the cursor."""
        batch = Batch(tp, cursor, cursor.next, records, len(self._owners(tp)), self._watch.ask())
        cursor.next = records[-1].offset + 1
        cursor.pending += 1
        return batch

    def submit(self, batch: Batch, subtopology: str) -> None:
        """Queue a batch for the subtopology's processor of its partition. Drops stale batches: they are fetched again."""
        one = self._open.get((subtopology, batch.tp.partition))
        if one is not None and self.cursors.get(batch.tp) is batch.cursor:
            one.idle.clear()
            one.queue.put_nowait(batch)

    def committed(self, subtopology: str, number: int) -> CommittedState | None:
        """Returns a partition's committed state, valid until the next `await`; None if the partition is not open here or has no state."""
        one = self._open.get((subtopology, number))
        return (
            one.processor.committed() if one is not None and isinstance(one.processor, TransactionalProcessor) else None
        )

    async def punctuate(self) -> None:
        """Run the time-driven work that is due in every open partition."""
        if not self._closing:
            await asyncio.gather(*(one.processor.punctuate() for one in self._open.values()))

    def durable_positions(self) -> dict[TopicPartition, int]:
        """Returns, for each partition being read, the first offset whose effects are not durable yet."""
        offsets: dict[TopicPartition, int] = {}
        for tp in self.cursors:
            known = [
                offset
                for _, one in self._owners(tp)
                if (offset := one.processor.durable_position(tp.topic)) is not None
            ]
            if known:
                offsets[tp] = min(known)
        return offsets

    async def expired(self, positions: Mapping[TopicPartition, int]) -> ContinuityError:
        """Returns the error to exit with if Kafka does not have these offsets."""
        first = await self.log.beginning(positions)
        return ContinuityError("; ".join(expired(tp, offset, first[tp]) for tp, offset in positions.items()))

    def _expect(self) -> None:
        """Set the topics to watch to those of the open partitions; the first call starts the watch."""
        ids, counts = dict[str, uuid.UUID](), dict[str, int]()
        subtopologies = {subtopology.name: subtopology for subtopology in self._subtopologies}
        for (name, _), one in self._open.items():
            identities = one.processor.topic_ids()
            ids |= identities
            if (partitions := subtopologies[name].partitions) is not None:
                counts |= dict.fromkeys(identities, partitions)
        self._watch.ids, self._watch.counts = ids, counts
        if self._watching is None and not self._closing:
            self._watching = asyncio.create_task(self._die_of_change(), name="topics")

    async def _confirm(self, batches: Iterable[Batch]) -> None:
        """Wait until Kafka confirms that the batches are from the topics that were opened. Raises ContinuityError if they are not."""
        for batch in batches:
            if (change := await asyncio.shield(batch.change)) is not None:
                raise await self._changed(change)

    async def _die_of_change(self) -> None:
        change = await self._watch.next_change()
        die(await self._changed(change), "watching topics")

    async def _changed(self, change: TopicChange) -> ContinuityError:
        """Returns the error for a change, with the exact offset ranges."""
        if change.partitions is not None:
            return ContinuityError(
                repartitioned(change.topic, change.partitions, self._watch.counts.get(change.topic, 0))
            )
        durable = {
            number: position
            for (_, number), one in sorted(self._open.items())
            if (position := one.processor.durable_position(change.topic)) is not None
        }
        ends: Mapping[TopicPartition, int] = {}
        if change.now is not None and durable:
            ends = await self.log.end(TopicPartition(change.topic, number) for number in durable)
        return ContinuityError(topic_recreated(change, durable, {tp.partition: end for tp, end in ends.items()}))

    async def _check_state(
        self, tps: Iterable[TopicPartition], first: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> None:
        """Raises ContinuityError if a partition has no position although its group once committed one: its changelogs are gone."""
        stateless: dict[str, list[TopicPartition]] = {}
        for tp in tps:
            match self._owners(tp):  # a committed offset of a topic with several owners may be of any of them: skipped
                case [(Subtopology(group_id=str(group_id)), one)] if one.processor.position(tp.topic) is None:
                    stateless.setdefault(group_id, []).append(tp)
        for group_id, partitions in stateless.items():
            for tp, committed in (await self.log.committed(group_id, partitions)).items():
                if first[tp] < committed <= end[tp]:
                    raise ContinuityError(state_gone(tp, committed, group_id))

    def _owners(self, tp: TopicPartition) -> list[tuple[Subtopology, _Open]]:
        return [
            (subtopology, one)
            for subtopology in self._subtopologies
            if tp.topic in subtopology.topics and (one := self._open.get((subtopology.name, tp.partition))) is not None
        ]

    async def _open_all(self, wanted: Mapping[tuple[str, int], Subtopology]) -> None:
        """Open these partitions concurrently. `close` cancels it: it closes the partitions open by then and leaves the rest unopened."""
        if self._closing:
            return
        tasks = [asyncio.create_task(self._open_one(key, subtopology)) for key, subtopology in wanted.items()]
        self._opening.update(tasks)
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._opening.difference_update(tasks)

    async def _open_one(self, key: tuple[str, int], subtopology: Subtopology) -> None:
        await self.log.start()
        processor = subtopology.factory(key[1])
        await processor.open()
        one = self._open[key] = _Open(processor)
        one.idle.set()
        metrics.OPEN_PARTITIONS.labels(key[0]).inc()
        one.task = asyncio.create_task(self._run(key, one), name=f"{key[0]}/{key[1]}")

    async def _drain_one(self, key: tuple[str, int], one: _Open) -> None:
        try:
            async with asyncio.timeout(self.settings.drain_timeout_s):
                await one.idle.wait()
        except TimeoutError:
            metrics.ABANDONED.labels(key[0]).inc()
            logger.warning("%s/%d is still busy after %d s: closed unfinished", *key, self.settings.drain_timeout_s)
            await self._close(key, wait=False)

    async def _close(self, key: tuple[str, int], *, wait: bool = True) -> None:
        one = self._open.pop(key)
        metrics.OPEN_PARTITIONS.labels(key[0]).dec()
        if wait:
            await one.idle.wait()
        if one.task is not None:
            one.task.cancel()
            await asyncio.gather(one.task, return_exceptions=True)
        await one.processor.close()
        logger.info("closed %s/%d", *key)

    async def _run(self, key: tuple[str, int], one: _Open) -> None:
        """Process queued batches, several in one call until they reach `max_batch_records`."""
        while True:
            batches = [await one.queue.get()]
            while not one.queue.empty() and sum(len(b.records) for b in batches) < self.settings.max_batch_records:
                batches.append(one.queue.get_nowait())
            try:
                await self._confirm(batches)
                current = [batch for batch in batches if self.cursors.get(batch.tp) is batch.cursor]
                if current:
                    _check_continuity(one.processor, current)
                    await one.processor.process([(batch.tp.topic, batch.records) for batch in current])
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - after any error, no later record may be processed
                die(error, f"{key[0]}/{key[1]}: {', '.join(map(_range, batches))}")
            finally:
                for batch in batches:
                    batch.done()
                if one.queue.empty():
                    one.idle.set()


def _check_continuity(processor: Processor, batches: Sequence[Batch]) -> None:
    """Raises ContinuityError if offsets would be skipped between the position and these batches, or between two batches."""
    reached: dict[str, int] = {}
    for batch in batches:
        position = reached.get(batch.tp.topic, processor.position(batch.tp.topic))
        if position is not None and batch.begin > position:
            raise ContinuityError(f"fetched {_range(batch)}, but the next offset to process is {position}")
        reached[batch.tp.topic] = batch.records[-1].offset + 1


def _range(batch: Batch) -> str:
    return f"{batch.tp.topic}/{batch.tp.partition} offsets {batch.begin} to {batch.records[-1].offset}"
