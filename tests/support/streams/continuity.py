"""Runs a group of the engine on a real broker without a worker process, and recreates, truncates or repartitions its topics."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings
from app.engine import engine as engine_module
from app.engine.engine import Engine
from app.engine.exits import CONTINUITY, exit_code
from app.engine.kafka import connection
from app.engine.partition_group import PartitionGroup
from app.engine.subtopologies import transactional_subtopology
from app.engine.table import Table
from app.engine.topic_admin import TopicSpec, ensure_topics
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.local.stack.stack import Stack
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import until
from tests.support.streams.broker import remove_topics

EVENTS = 20
SEEN: Table[bytes, bytes] = Table("seen", bytes, bytes, bytes)


class Died(Exception):  # noqa: N818 - it stands for an end, not for an error
    """Raised where a worker's process would exit."""


class TaskHarness:
    """Opens, feeds and closes a group of one topic with one partition on a real broker, without a worker process."""

    def __init__(self, kafka: KafkaSettings, admin: AIOKafkaAdminClient, state: Path) -> None:
        name = uuid4().hex[:8]
        self.kafka, self.state, self.admin = kafka, state, admin
        self.topic, self.output = f"continuity.{name}", f"continuity.{name}.seen"
        self.group = PartitionGroup(f"app-{name}", "by-key", (self.topic,), (SEEN,), 1, lambda _: 1, f"{name}.letters")
        self.input = TopicPartition(self.topic, 0)
        self.engine = self._engine()
        self.causes: list[BaseException] = []

    def _engine(self) -> Engine:
        engine = Engine(self.kafka, EngineSettings(state_dir=self.state))
        engine.add(
            transactional_subtopology(
                self.group, {self.topic: self._see}, engine, state=self.state, cache=Cache(1 << 20)
            )
        )
        return engine

    def _see(self, record: InputRecord, unit: UnitOfWork) -> None:
        unit.table(SEEN).put(b"%d" % record.offset, record.value or b"")
        unit.emit(self.output, key=None, value=record.value, partition=0)

    def die(self, error: BaseException, where: str) -> None:
        self.causes.append(error)
        raise Died(where)

    async def create(self, *topics: str) -> None:
        await ensure_topics([TopicSpec(topic, 1, {}) for topic in topics], self.kafka)

    async def recreate(self, *topics: str) -> None:
        await remove_topics(self.admin, *topics)
        await self.create(*topics)

    async def send(self, records: int) -> None:
        """Sends this number of records to the input."""
        await self.send_values(self.topic, *(b"%d" % number for number in range(records)))

    async def send_values(self, topic: str, *values: bytes) -> None:
        producer = AIOKafkaProducer(**connection(self.kafka), retry_backoff_ms=10)
        await producer.start()
        try:
            for value in values:
                await producer.send(topic, value)
            await producer.flush()
        finally:
            await producer.stop()

    async def expire(self, before: int) -> None:
        """Removes records of the input below this offset, as retention does."""
        await self.admin.delete_records({self.input: RecordsToDelete(before)})

    async def repartition(self, topic: str, count: int) -> None:
        await self.admin.create_partitions({topic: NewPartitions(count)})

    async def open(self) -> int:
        """Opens the partition and returns the offset at which it would continue."""
        await self.engine.log.start()
        await self.engine.check()
        await self.engine.assign([self.input])
        return (await self.engine.seek_offsets([self.input]))[self.input]

    async def close(self) -> None:
        await self.engine.close()

    async def reopen(self) -> int:
        """Closes and opens the partition, like a worker that restarts."""
        await self.close()
        self.engine = self._engine()
        return await self.open()

    async def fetch(self) -> Sequence[InputRecord]:
        """Fetches all records from the cursor on."""
        consumer = AIOKafkaConsumer(**connection(self.kafka), isolation_level="read_committed")
        await consumer.start()
        try:
            consumer.assign([self.input])
            end = (await consumer.end_offsets([self.input]))[self.input]
            consumer.seek(self.input, self.engine.cursors[self.input].next)
            found: list[InputRecord] = []
            async with asyncio.timeout(30):
                while await consumer.position(self.input) < end:
                    found += (await consumer.getmany(timeout_ms=100)).get(self.input, [])
            return found
        finally:
            await consumer.stop()

    def submit(self, records: Sequence[InputRecord]) -> None:
        batch = self.engine.fetched(self.input, self.engine.cursors[self.input], records)
        self.engine.submit(batch, self.group.name)

    async def process(self) -> None:
        """Processes all records from the cursor on."""
        self.submit(await self.fetch())
        await until(lambda: self.engine.cursors[self.input].pending == 0)
        assert not self.causes

    async def until_death(self) -> str:
        """Waits until the process would have exited with CONTINUITY, and returns the message."""
        await until(lambda: bool(self.causes))
        assert exit_code(self.causes[0]) == CONTINUITY
        return str(self.causes[0])

    async def outputs(self) -> int:
        consumer = AIOKafkaConsumer(**connection(self.kafka))
        await consumer.start()
        try:
            tp = TopicPartition(self.output, 0)
            return int((await consumer.end_offsets([tp]))[tp])
        finally:
            await consumer.stop()


@pytest.fixture
async def rig(kafka_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskHarness]:
    """An open harness that has processed `EVENTS` records."""
    kafka = settings_of(kafka_stack, KafkaSettings)
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    made = TaskHarness(kafka, admin, tmp_path)
    monkeypatch.setattr(engine_module, "die", made.die)
    try:
        await made.create(
            made.topic, made.output, made.group.dead_letter_topic, *(log.topic for log in made.group.changelogs)
        )
        await made.send(EVENTS)
        assert await made.open() == 0
        await made.process()
        yield made
    finally:
        await made.close()
        await admin.close()
