"""Tests on a real broker that the end of a topic's committed records is found, after waiting for open transactions."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from app.config.settings import KafkaSettings
from app.engine.committed_reader import read_all_committed
from app.engine.kafka import connection
from app.engine.topic_admin import TopicSpec, ensure_topics
from app.proof.reconcile.barrier import last_records
from app.proof.reconcile.report import ReconcileError

pytestmark = pytest.mark.integration


@pytest.fixture
async def topic(kafka: KafkaSettings) -> str:
    name = f"barrier-{uuid4().hex[:8]}"
    await ensure_topics([TopicSpec(name, 3, {})], kafka)
    return name


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(**connection(kafka), transactional_id=uuid4().hex, retry_backoff_ms=5)
    await made.start()
    yield made
    await made.stop()


async def test_an_open_transaction_is_waited_for(kafka: KafkaSettings, topic: str, producer: AIOKafkaProducer) -> None:
    tps = [TopicPartition(topic, number) for number in range(3)]
    async with producer.transaction():
        await producer.send_and_wait(topic, b"a", partition=0)
    assert await last_records(kafka, tps, time.monotonic() + 30) == {tps[0]: 0, tps[1]: -1, tps[2]: -1}
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"b", partition=1)
    with pytest.raises(ReconcileError, match=f"{topic}/1 cannot be read in time: the transaction"):
        await last_records(kafka, tps, time.monotonic() + 1)
    asking = asyncio.create_task(last_records(kafka, tps, time.monotonic() + 30))
    await asyncio.wait([asking], timeout=0.5)
    assert not asking.done()
    await producer.commit_transaction()
    assert await asking == {tps[0]: 0, tps[1]: 0, tps[2]: -1}


async def test_aborted_records_are_skipped(kafka: KafkaSettings, topic: str, producer: AIOKafkaProducer) -> None:
    tps = [TopicPartition(topic, number) for number in range(3)]
    async with producer.transaction():
        await producer.send_and_wait(topic, b"a", partition=2)
    for _ in range(40):  # 80 offsets, more than the first read covers
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"b", partition=2)
        await producer.abort_transaction()
    assert await last_records(kafka, tps, time.monotonic() + 30) == {tps[0]: -1, tps[1]: -1, tps[2]: 0}
    assert [(record.partition, record.value) async for record in read_all_committed(kafka, tps)] == [(2, b"a")]
