"""Waits until the warehouse has loaded everything that the source had committed at the time of the call.

It commits a marker to the source's heartbeat table. Debezium keeps the order of commits. So when the marker has arrived in Kafka, all
earlier commits have arrived too, and the warehouse has to reach the ends that the topics have then.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import uuid4

import msgspec
import psycopg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings, SourceSettings
from app.config.topics import HEARTBEAT
from app.engine.committed_reader import committed_consumer
from app.engine.kafka import KafkaLog
from app.postgres import as_bank
from app.proof.reconcile.report import ReconcileError
from app.proof.reconcile.warehouse import CurrentRowsReader
from app.runtime.progress import OnProgress

MARK_EVERY_S: Final = 5.0
"""The interval of setting the marker again: a marker that the connector's first snapshot has read never arrives as a change."""
POLL_S: Final = 0.1
TAIL_RECORDS: Final = 64
"""How far before the end of a log the search for its last record begins; transaction markers take offsets after it."""

Offsets = Mapping[TopicPartition, int]


class _Row(msgspec.Struct):
    marker: str | None = None


class _Envelope(msgspec.Struct):
    op: str | None = None
    after: _Row | None = None
    payload: "_Envelope | None" = None


class Marker:
    """Writes a unique word into the source's log."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._word = f"bankstream-{uuid4().hex}"

    def set(self) -> None:
        """Commits the word, also if it was committed before."""
        settings = self._settings
        try:
            with as_bank(settings, connect_timeout=10, application_name="bankstream reconcile") as session:
                found = session.execute("UPDATE public.heartbeat SET marker = %s", [self._word]).rowcount
        except psycopg.Error as error:
            raise ReconcileError(
                f"no marker can be set in PostgreSQL as {settings.user}: {' '.join(str(error).split())}"
            ) from None
        if found != 1:
            raise ReconcileError(
                f"table heartbeat has {found} rows instead of one. As the owner, restore its only row, the one with id 1."
            )

    def is_in(self, value: bytes | None) -> bool:
        """Returns whether this change of the heartbeat carries the word."""
        if value is None or self._word.encode() not in value:
            return False
        envelope = msgspec.json.decode(value, type=_Envelope)
        envelope = envelope.payload or envelope
        return envelope.op in ("c", "u") and envelope.after is not None and envelope.after.marker == self._word


async def everything_committed(
    settings: KafkaSettings, source: SourceSettings, topics: Iterable[str], *, timeout_s: float, on_progress: OnProgress
) -> dict[TopicPartition, int]:
    """Waits until these topics have everything that the source has committed by now. Returns the offset of the last committed record of
    each partition; -1 where there is none. ReconcileError if the marker does not arrive in time.
    """
    deadline = time.monotonic() + timeout_s
    try:
        async with committed_consumer(settings) as consumer:
            await _pass_marker(consumer, Marker(source), deadline, timeout_s, on_progress)
        return await last_records(settings, await partitions_of(settings, topics), deadline)
    except KafkaError as error:
        raise ReconcileError(f"Kafka at {settings.bootstrap_servers} does not answer: {error!r}") from None


async def _pass_marker(
    consumer: Any, marker: Marker, deadline: float, timeout_s: float, on_progress: OnProgress
) -> None:
    on_progress("waiting for a marker to arrive in Kafka")
    heartbeat = TopicPartition(HEARTBEAT.name, 0)
    consumer.assign([heartbeat])
    consumer.seek(heartbeat, (await consumer.end_offsets([heartbeat]))[heartbeat])
    marked = 0.0
    while True:
        if time.monotonic() - marked >= MARK_EVERY_S:
            await asyncio.to_thread(marker.set)
            marked = time.monotonic()
        for records in (await consumer.getmany(timeout_ms=200)).values():
            if any(marker.is_in(record.value) for record in records):
                return
        if time.monotonic() > deadline:
            raise ReconcileError(
                f"a marker committed in PostgreSQL has not arrived in topic {HEARTBEAT.name} within {timeout_s:.0f} s: the connector "
                "has stopped or is far behind. See its state (bankstream stack status) and its log, and try again."
            )


async def partitions_of(settings: KafkaSettings, topics: Iterable[str]) -> list[TopicPartition]:
    """Returns every partition of these topics. ContinuityError if a topic does not exist."""
    async with KafkaLog(settings) as log:
        found = await log.require(topics)
    return [TopicPartition(topic.name, index) for topic in found.values() for index in range(topic.partitions)]


async def last_records(
    settings: KafkaSettings, partitions: list[TopicPartition], deadline: float
) -> dict[TopicPartition, int]:
    """Returns the offset of the last committed record of each partition; -1 where there is none. ReconcileError on a timeout.

    The end offset of a log is not sufficient, because transaction markers and aborted records take offsets too. So the last records are
    read, up to the high watermarks. The last stable offset is not sufficient either: the markers of a transaction are written to its
    partitions one after another, so one partition may show the transaction as committed before the others do.
    """
    async with KafkaLog(settings) as log, committed_consumer(settings) as consumer:
        ends, beginnings = await log.end(partitions), await log.beginning(partitions)
        found = {partition: -1 for partition in partitions if ends[partition] == beginnings[partition]}
        reach = TAIL_RECORDS
        while missing := [partition for partition in partitions if partition not in found]:
            consumer.assign(missing)
            starts = {partition: max(beginnings[partition], ends[partition] - reach) for partition in missing}
            for partition, start in starts.items():
                consumer.seek(partition, start)
            last = await _read_to(consumer, {partition: ends[partition] for partition in missing}, deadline)
            found |= last
            found |= {p: -1 for p in missing if p not in last and starts[p] == beginnings[p]}
            reach *= 16
        return found


async def _read_to(consumer: Any, ends: Offsets, deadline: float) -> dict[TopicPartition, int]:
    """Reads every partition to its end. Returns the offset of the last record before the end, for each partition that has one."""
    last: dict[TopicPartition, int] = {}
    waiting = set(ends)
    while waiting:
        for partition, records in (await consumer.getmany(*waiting, timeout_ms=100)).items():
            below = [record.offset for record in records if record.offset < ends[partition]]
            if below:
                last[partition] = below[-1]
        waiting = {partition for partition in waiting if await consumer.position(partition) < ends[partition]}
        if waiting and time.monotonic() > deadline:
            raise ReconcileError(
                f"the end of {', '.join(f'{p.topic}/{p.partition}' for p in sorted(waiting))} cannot be read in time: the transaction of a "
                "worker that died is open until it times out, or Kafka is slow. Try again."
            )
    return last


async def topic_ids(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, str]:
    """Returns the id of each topic. A topic that is recreated under the same name has another id, and its offsets start again at 0."""
    async with KafkaLog(settings) as log:
        return {name: str(topic.id) for name, topic in (await log.require(topics)).items()}


def wait_for_ledger(
    warehouse: CurrentRowsReader, wanted: Offsets, ids: Mapping[str, str], *, timeout_s: float, on_progress: OnProgress
) -> None:
    """Waits until the warehouse has loaded all of these offsets. On a timeout, ReconcileError names the partitions that are behind.

    SinkError if the warehouse does not answer.
    """
    deadline = time.monotonic() + timeout_s
    on_progress("waiting until the warehouse has loaded everything")
    while True:
        ledger = warehouse.ledger()
        behind = {
            partition: ledger.get((partition.topic, ids[partition.topic], partition.partition), -1)
            for partition, offset in wanted.items()
            if ledger.get((partition.topic, ids[partition.topic], partition.partition), -1) < offset
        }
        if not behind:
            return
        if time.monotonic() > deadline:
            where = ", ".join(
                f"{p.topic}/{p.partition} is at {at} of {wanted[p]}" for p, at in sorted(behind.items())[:5]
            )
            raise ReconcileError(
                f"the warehouse has not loaded everything within {timeout_s:.0f} s: {where}. See the lake's and the loader's state "
                "(bankstream stack status) and logs, and try again."
            )
        time.sleep(POLL_S)
