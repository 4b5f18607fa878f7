"""Reads Debezium's committed records from the beginning of their topics until a condition holds."""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.config.settings import KafkaSettings
from app.engine.kafka import KafkaLog, connection


@dataclass(frozen=True)
class CdcRecord:
    """One record of a CDC topic, decoded."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    headers: tuple[tuple[str, bytes], ...]
    raw_key: bytes | None
    raw_value: bytes | None

    @property
    def key(self) -> Any:
        return None if self.raw_key is None else json.loads(self.raw_key)

    @property
    def value(self) -> Any:
        return None if self.raw_value is None else json.loads(self.raw_value)


async def read_cdc(
    kafka: KafkaSettings, topics: Iterable[str], enough: Callable[[list[CdcRecord]], bool], *, timeout_s: float = 30
) -> list[CdcRecord]:
    """All committed records of the topics so far, in the order of each partition. TimeoutError if the condition does not hold in time."""
    async with KafkaLog(kafka) as log:
        infos = await log.require(topics)
    consumer = AIOKafkaConsumer(**connection(kafka), isolation_level="read_committed")
    await consumer.start()
    try:
        partitions = [TopicPartition(info.name, n) for info in infos.values() for n in range(info.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[CdcRecord] = []
        async with asyncio.timeout(timeout_s):
            while not enough(found):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [
                        CdcRecord(r.topic, r.partition, r.offset, r.timestamp, tuple(r.headers), r.key, r.value)
                        for r in records
                    ]
        return found
    finally:
        await consumer.stop()


def rows(records: Iterable[CdcRecord], operation: str) -> list[dict[str, Any]]:
    """The rows of all changes of one kind: the row after the change, or for a delete the row before it."""
    values = [record.value for record in records if record.raw_value is not None]
    return [value["after"] or value["before"] for value in values if value.get("op") == operation]
