"""The lake and warehouse workers as processes on a real broker, S3 and warehouse: every record exactly once, whoever is killed when."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.engine.kafka import connection
from app.settings import KafkaSettings, S3Settings, SnowflakeSettings
from app.topics import ALERTS, BY_NAME, LANDED, TRANSACTIONS, TRANSACTIONS_CDC, VELOCITY
from sinks.audit import audit
from sinks.chain import chains
from sinks.s3 import S3Store
from sinks.snowflake import connect
from tests.support.stack import settings_of
from tests.support.workers import Workers

pytestmark = pytest.mark.integration

PARTITIONS = 4
TOPICS = (TRANSACTIONS_CDC, TRANSACTIONS, VELOCITY, ALERTS)
Contents = dict[tuple[str, int], list[tuple[int, bytes | None, bytes | None]]]
HOSTILE = (
    None,
    b"",
    b"null",
    b'{"a":NaN}',
    b'{"a":1,"a":2}',
    b"\xff\xfe",
    b'{"n":\n1}',
    b'{"d":' + b"[" * 500 + b"]" * 500 + b"}",
)
"""Values among the ordinary ones, so that what must not stop anything is always there."""


class Feed:
    """Writes to the landed topics in transactions, some of which are aborted."""

    def __init__(self, kafka: KafkaSettings, seed: int) -> None:
        self._kafka, self._chance = kafka, random.Random(seed)
        self.sent = 0

    async def run(self, seconds: float, rate: int) -> None:
        """About `rate` records a second for so long."""
        producer = AIOKafkaProducer(**connection(self._kafka), transactional_id=f"feed-{self._chance.random()}")
        await producer.start()
        try:
            clock = asyncio.get_running_loop().time
            begin = clock()
            while (passed := clock() - begin) < seconds:
                while self.sent < passed * rate:
                    await producer.begin_transaction()
                    for _ in range(self._chance.randint(1, 60)):
                        await self._send(producer)
                    await (
                        producer.abort_transaction() if self._chance.random() < 0.1 else producer.commit_transaction()
                    )
                await asyncio.sleep(0.01)
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer) -> None:
        value = b'{"n":%d,"amount":"1.50","text":"%s"}' % (self.sent, b"x" * self._chance.randint(0, 400))
        if self._chance.random() < 0.02:
            value = self._chance.choice(HOSTILE)  # type: ignore[assignment]  # a tombstone is None
        topic = self._chance.choice(TOPICS).name
        await producer.send(
            topic, key=b'{"id":%d}' % self.sent, value=value, partition=self._chance.randrange(PARTITIONS)
        )
        self.sent += 1


async def in_kafka(kafka: KafkaSettings) -> Contents:
    """Every committed record of the landed topics."""
    consumer = AIOKafkaConsumer(**connection(kafka), isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for topic in LANDED for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        found: Contents = {}
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                found.setdefault((tp.topic, tp.partition), []).extend((r.offset, r.key, r.value) for r in batch)
        return found
    finally:
        await consumer.stop()


async def in_lake(settings: S3Settings) -> Contents:
    """Every record of the lake, its chains audited."""
    store, found = S3Store(settings), {}
    try:
        for topic in LANDED:
            for key in await chains(store, topic.name):
                rows = [row async for _, lines in audit(store, key) for row in lines]
                found[key.topic, key.partition] = [(r.offset, r.key_bytes(), r.value_bytes()) for r in rows]
        return found
    finally:
        await store.close()


class Reader:
    """Asks the warehouse."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        self._connection = connect(settings)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(sql) or ()]

    def ledger(self) -> Mapping[tuple[str, int], int]:
        found = self.rows("SELECT topic, log_partition, last_offset FROM BRONZE.LAKE_LEDGER")
        return {(topic, int(number)): int(offset) for topic, number, offset in found}

    def landed(self) -> Counter[tuple[str, int, int]]:
        """How often each record is there."""
        found: Counter[tuple[str, int, int]] = Counter()
        for table in sorted({topic.landing for topic in LANDED if topic.landing}):
            for topic, number, offset in self.rows(
                f"SELECT record:topic::varchar, record:partition::int, record:offset::int FROM BRONZE.{table}"  # noqa: S608
            ):
                assert BY_NAME[topic].landing == table
                found[topic, int(number), int(offset)] += 1
        return found

    def close(self) -> None:
        self._connection.close()


async def reached(reader: Reader, expected: Contents, workers: Workers, timeout_s: float = 90) -> None:
    """Until the ledger has every last offset."""
    last = {tp: rows[-1][0] for tp, rows in expected.items()}
    async with asyncio.timeout(timeout_s):
        while dict(await asyncio.to_thread(reader.ledger)) != last:
            workers.check()
            await asyncio.sleep(0.2)


async def test_every_record_is_archived_and_loaded_once_though_workers_are_killed_under_load(
    environment: dict[str, str], tmp_path: Path
) -> None:
    kafka = settings_of(environment, KafkaSettings)
    chance = random.Random(1)
    reader = Reader(settings_of(environment, SnowflakeSettings))
    feed = Feed(kafka, seed=2)
    with Workers(environment, tmp_path) as workers:
        running = {
            "lake": workers.start("lake", by_faust=True),
            "second lake": workers.start("lake"),
            "warehouse": workers.start("warehouse"),
        }
        feeding = asyncio.create_task(feed.run(seconds=32, rate=800))
        for name in ("warehouse", "lake", "warehouse", "second lake", "lake", "warehouse"):
            await asyncio.sleep(3 + 2 * chance.random())  # the moment is the point: there is no condition to wait for
            workers.kill(running[name])
            running[name] = workers.start(name.rpartition(" ")[2])
        await feeding
        expected = await in_kafka(kafka)
        assert sum(map(len, expected.values())) > 10_000
        await reached(reader, expected, workers)
        assert await in_lake(settings_of(environment, S3Settings)) == expected
        landed = reader.landed()
        assert landed == Counter({(*tp, row[0]): 1 for tp, rows in expected.items() for row in rows})
        assert [workers.stop(worker) for worker in list(workers.alive)] == [0, 0, 0]
    reader.close()
