"""Reading committed records outside of any group: for tools, and for looks into the log."""

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
    """A consumer that sees committed records only and belongs to no group; the caller starts, assigns, seeks and stops it.

    What it looks for and Kafka no longer has, it passes over, unless `auto_offset_reset` among the options (aiokafka's) says otherwise.
    """
    ours = {"isolation_level": "read_committed", "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    return AIOKafkaConsumer(**connection(settings), **{**ours, "fetch_max_wait_ms": FETCH_WAIT_MS, **options})


@asynccontextmanager
async def committed_consumer(settings: KafkaSettings, **options: Any) -> AsyncIterator[Any]:
    """One that is started, and stopped at the end."""
    consumer = committed_reader(settings, **options)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_all_committed(
    settings: KafkaSettings, partitions: Iterable[TopicPartition], *, since_ms: int | None = None
) -> AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]:
    """Every committed record that these partitions had when it was asked, in order within each. `since_ms`: from the first on that was
    recorded then or later, in milliseconds since the epoch.
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
