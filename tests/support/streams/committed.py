"""Reads logs to their end. Waits for transaction markers, because a commit returns before the broker has written them."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.engine.committed_reader import committed_consumer
from app.engine.kafka import KafkaLog
from tests.support.machine.waiting import POLL_S

TIMEOUT_S = 60


async def all_committed(
    kafka: KafkaSettings, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, list[Any]]:
    """The records of all transactions that are committed at the time of the call, by partition, in order."""
    async with KafkaLog(kafka) as log, committed_consumer(kafka) as consumer, asyncio.timeout(TIMEOUT_S):
        ends = await log.end(partitions)
        consumer.assign(list(partitions))
        await consumer.seek_to_beginning()
        found: dict[TopicPartition, list[Any]] = {tp: [] for tp in partitions}
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                found[tp] += [record for record in records if record.offset < ends[tp]]
        return found


async def settled_end(kafka: KafkaSettings, partition: TopicPartition) -> int:
    """The high watermark, once the markers of all transactions below it are written."""
    async with KafkaLog(kafka) as log, committed_consumer(kafka) as consumer, asyncio.timeout(TIMEOUT_S):
        while (end := (await log.end([partition]))[partition]) != (await consumer.end_offsets([partition]))[partition]:
            await asyncio.sleep(POLL_S)
        return end
