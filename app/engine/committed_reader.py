"""Reads committed records without joining a consumer group: for tools and diagnosis."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.config.settings import KafkaSettings
from app.engine.kafka import connection

FETCH_WAIT_MS = 50
"""How long one fetch waits for records."""
POLL_MS = 200
"""How long to wait for a fetch."""


def committed_reader(settings: KafkaSettings, **options: Any) -> Any:
    """Returns a consumer that reads only committed records and joins no group; the caller starts, assigns, seeks and stops it.

    If Kafka no longer has an offset, the consumer continues at the first one that exists, unless `auto_offset_reset` among the options
    (aiokafka's) says otherwise.
    """
    ours = {"isolation_level": "read_committed", "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    return AIOKafkaConsumer(**connection(settings), **{**ours, "fetch_max_wait_ms": FETCH_WAIT_MS, **options})


@asynccontextmanager
async def committed_consumer(settings: KafkaSettings, **options: Any) -> AsyncIterator[Any]:
    """A `committed_reader` that is started on entry and stopped on exit."""
    consumer = committed_reader(settings, **options)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_all_committed(
    settings: KafkaSettings, partitions: Iterable[TopicPartition], *, since_ms: int | None = None
) -> AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]:
    """Yields every committed record below the end offsets at the time of the call, in order within each partition. `since_ms`: begin with
    the first record whose timestamp is this or later, in milliseconds since the epoch.
    """
    tps = list(partitions)
    async with committed_consumer(settings) as consumer:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        if since_ms is not None:
            for tp, found in (await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))).items():
                consumer.seek(tp, ends[tp] if found is None else found.offset)
        while behind := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(*behind, timeout_ms=POLL_MS)).items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield record
