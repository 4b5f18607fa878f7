"""Accepts a gap: writes its record into the lake first, then moves the position past the gap.

Only lost records can be accepted: the range is determined here from Kafka, the lake and the changelogs. Accepting is idempotent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from aiokafka import TopicPartition

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.kafka import KafkaLog
from app.engine.partition_group import POSITIONS, PartitionGroup
from app.engine.positions import Position, encode
from app.engine.transactional_producer import TransactionalProducer
from app.errors import BankstreamError
from app.operations.doctor.capture import CaptureGap, read_breaks
from app.operations.doctor.kafka import read_positions
from sinks import chain, gaps
from sinks.base import ChainKey, ObjectStore
from sinks.gaps import GapRecord


class GapError(BankstreamError):
    """The gap does not exist, or cannot be accepted now."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The acceptance of a gap: the reason, the person who accepts it, and the time (RFC 3339, UTC)."""

    reason: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A topic partition in Kafka now: its topic id and its first offset."""

    tp: TopicPartition
    topic_id: str
    first: int


async def accept_lake(
    store: ObjectStore, kafka: KafkaSettings, tp: TopicPartition, decision: Decision, *, topic_id: str | None = None
) -> GapRecord:
    """Lets the lake continue from Kafka's first record. `topic_id`: accepts the loss after the chain of a deleted topic of that id."""
    now = await _place(kafka, tp)
    key = ChainKey(tp.topic, topic_id or now.topic_id, tp.partition)
    newest = await chain.newest(store, key)
    if newest is None:
        raise GapError(
            f"the lake has no chain of {tp.topic}/{tp.partition} with id {key.topic_id}: none of its records were archived"
        )
    begins = await gaps.resume_offset(store, key, newest.last_offset + 1)
    if key.topic_id == now.topic_id and begins >= now.first:
        raise GapError(
            f"nothing is lost of {tp.topic}/{tp.partition}: the lake needs offset {begins}, Kafka begins with {now.first}"
        )
    return await gaps.write(store, _record("lake", now, key.topic_id, begins, decision))


async def accept_streams(
    store: ObjectStore,
    kafka: KafkaSettings,
    engine: EngineSettings,
    groups: Sequence[PartitionGroup],
    tp: TopicPartition,
    decision: Decision,
) -> list[GapRecord]:
    """Lets the streams groups of this topic continue from the first record that Kafka has. Fences the worker that owns the partition."""
    now = await _place(kafka, tp)
    found = [
        await _accept_group(store, kafka, engine, group, now, decision) for group in groups if tp.topic in group.topics
    ]
    accepted = [gap for gap in found if gap is not None]
    if not accepted:
        raise GapError(f"nothing is lost of {tp.topic}/{tp.partition}: Kafka has what the streams workers need next")
    return accepted


async def _accept_group(
    store: ObjectStore,
    kafka: KafkaSettings,
    engine: EngineSettings,
    group: PartitionGroup,
    now: _Place,
    decision: Decision,
) -> GapRecord | None:
    transactions = TransactionalProducer(group.transactional_id(now.tp.partition), kafka, engine)
    await transactions.start()  # fences the worker: it can no longer move the position
    try:
        async with KafkaLog(kafka) as log:
            states = await read_positions(kafka, group, log)
        position = states[now.tp.partition].positions.get(now.tp.topic)
        if position is None or (str(position.topic_id) == now.topic_id and position.offset >= now.first):
            return None
        gap = await gaps.write(store, _record("streams", now, str(position.topic_id), position.offset, decision))
        goes_on = Position(gap.resumes_at, UUID(gap.resumes_topic_id))
        target = (group.changelog(POSITIONS), now.tp.partition)
        await transactions.commit({target: [(now.tp.topic.encode(), encode(goes_on))]})
    finally:
        await transactions.stop()
    return gap


async def accept_capture(
    store: ObjectStore, kafka: KafkaSettings, slot: str, wanted: str, decision: Decision
) -> GapRecord:
    """Accepts a range of LSNs that was not captured. `wanted` is the range as `bankstream doctor` prints it."""
    breaks: dict[str, CaptureGap] = {one.name: one for one in await read_breaks(kafka)}
    if wanted not in breaks:
        raise GapError(f"the heartbeats show no gap {wanted}. They show: {', '.join(breaks) or 'none'}")
    found = breaks[wanted]
    gap = GapRecord(
        worker="capture", topic=slot, topic_id="-", partition=0, first=found.last, last=found.resumed, resumes_topic_id="-",
        resumes_at=found.resumed, reason=decision.reason, accepted_by=decision.by, accepted_at=decision.at,
    )  # fmt: skip
    return await gaps.write(store, gap)


async def _place(kafka: KafkaSettings, tp: TopicPartition) -> _Place:
    async with KafkaLog(kafka) as log:
        info = (await log.require([tp.topic]))[tp.topic]
        if tp.partition >= info.partitions:
            raise GapError(f"topic {tp.topic} has no partition {tp.partition}")
        return _Place(tp, str(info.id), (await log.beginning([tp]))[tp])


def _record(worker: gaps.Worker, now: _Place, topic_id: str, first: int, decision: Decision) -> GapRecord:
    return GapRecord(
        worker=worker, topic=now.tp.topic, topic_id=topic_id, partition=now.tp.partition, first=first,
        last=now.first - 1 if topic_id == now.topic_id else None, resumes_topic_id=now.topic_id, resumes_at=now.first,
        reason=decision.reason, accepted_by=decision.by, accepted_at=decision.at,
    )  # fmt: skip
