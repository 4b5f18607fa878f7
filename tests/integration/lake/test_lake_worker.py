"""Tests the lake on a real S3 with faults, and the lake worker on a real broker whose topics are recreated."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import zstandard
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from app.config.settings import EngineSettings, KafkaSettings, S3Settings
from app.config.topics import ALERTS, VELOCITY
from app.engine.exits import CONTINUITY
from app.engine.kafka import connection
from app.engine.topic_admin import ensure_topics
from app.local.stack.stack import Stack
from app.operations.provision import topics
from sinks import lines
from sinks.base import SinkUnavailableError
from sinks.chain import chains, newest
from sinks.chain_verification import verify_chain
from sinks.s3 import S3Store
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import until
from tests.support.streams.broker import admin_client, remove_topics
from tests.support.streams.workers import Workers
from tests.support.warehouse.real_sinks import real_database, real_world
from tests.support.warehouse.sinks import LANDING, FailureRecorder, Record, chain_key, offsets, partition, records
from tests.support.web.http_faults import Fault, HttpProxy
from tests.unit.sinks.test_lake_lines import AS_THEY_ARE, WRAPPED

pytestmark = pytest.mark.integration

ATTEMPTS = 4


@pytest.fixture
async def faults(lake_stack: Stack) -> AsyncIterator[HttpProxy]:
    endpoint = urlsplit(settings_of(lake_stack, S3Settings).endpoint_url or "")
    async with HttpProxy(endpoint.hostname or "", endpoint.port or 0) as proxy:
        yield proxy


@pytest.fixture
async def store(lake_stack: Stack, faults: HttpProxy) -> AsyncIterator[S3Store]:
    """A store behind a proxy with faults."""
    with real_database(lake_stack) as database:
        made = S3Store(
            database.s3.model_copy(
                update={"endpoint_url": f"http://127.0.0.1:{faults.port}", "max_attempts": ATTEMPTS, "timeout_s": 5}
            )
        )
        yield made
        await made.close()


SEVERAL: list[Fault] = ["unavailable", "reset", "lost"]


@pytest.mark.parametrize("broken", [["lost"], ["unavailable"], ["reset"], SEVERAL], ids="-".join)
@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
async def test_failing_requests_do_not_break_the_chain(
    store: S3Store, faults: HttpProxy, method: str, broken: list[Fault]
) -> None:
    for begin in (0, 2, 4):
        one = partition(store, max_rows=1)
        faults.arm(method, *broken)
        if method == "HEAD" and begin == 0:
            await store.stat("nothing")
        await one.open()
        assert one.position == (begin or None)
        await one.process(records(begin, begin + 1))
        await until(lambda one=one, end=begin + 2: one.position == end)  # type: ignore[misc]
        await one.close()
    assert faults.fired == broken * 3
    assert [row.offset async for _, rows in verify_chain(store, chain_key()) for row in rows] == [*range(6)]


async def test_a_writer_exits_if_s3_stays_unavailable_and_its_successor_continues(
    store: S3Store, faults: HttpProxy
) -> None:
    deaths = FailureRecorder()
    one = partition(store, max_rows=1, deaths=deaths)
    await one.open()
    away: list[Fault] = ["unavailable"] * ATTEMPTS
    faults.arm("PUT", *away)
    await one.process(records(0))
    await until(lambda: deaths.causes)
    assert isinstance(deaths.causes[0], SinkUnavailableError)
    await one.close()
    successor = partition(store, max_rows=1)
    assert await successor.open() is None
    await successor.process(records(0))
    await until(lambda: successor.position == 1)
    await successor.close()


async def test_hostile_records_are_archived_to_the_byte_and_stop_no_load(lake_stack: Stack) -> None:
    values = [None, *AS_THEY_ARE, *(raw for raw, _ in WRAPPED)]
    hostile = [Record(n, value, key=value) for n, value in enumerate(values)]
    with real_database(lake_stack) as database:
        async with real_world(database) as world:
            one = partition(world.store, max_rows=len(hostile))
            await one.open()
            await one.process(hostile)
            await until(lambda: one.position == len(hostile))
            await one.close()
            [rows] = [rows async for _, rows in verify_chain(world.store, chain_key())]
            assert [(row.key_bytes(), row.value_bytes()) for row in rows] == [(value, value) for value in values]
            loader = world.loader()
            task = asyncio.create_task(loader.run())
            await until(lambda: loader.is_loaded(chain_key(), len(hostile) - 1))
            task.cancel()
            assert offsets(world.rows(LANDING)) == [*range(len(hostile))]


async def test_a_record_too_large_for_a_row_gets_its_own_object(lake_stack: Stack) -> None:
    value = b'{"text":"' + b"x" * lines.MAX_INLINE_BYTES + b'"}'
    with real_database(lake_stack) as database:
        async with real_world(database) as world:
            for _ in range(
                2
            ):  # the second writer finds the large object but not its chain: the first was killed in between
                one = partition(world.store, max_rows=2)
                await one.open()
                await one.process([Record(0, value)])
                await one.close()
            one = partition(world.store, max_rows=2)
            await one.open()
            await one.process([Record(0, value), Record(1)])
            await until(lambda: one.position == 2)
            await one.close()
            found = await newest(world.store, chain_key())
            assert found is not None
            assert found.bytes < 10_000
            [rows] = [rows async for _, rows in verify_chain(world.store, chain_key())]
            name = rows[0].large_object
            assert name is not None
            whole = lines.read(zstandard.decompress(await world.store.get(name)))
            assert (whole.offset, whole.key_bytes(), whole.value_bytes()) == (0, Record(0).key, value)
            loader = world.loader()
            task = asyncio.create_task(loader.run())
            await until(lambda: loader.is_loaded(chain_key(), 1))
            task.cancel()
            assert offsets(world.rows(LANDING)) == [0, 1]


# the worker process


class Broker:
    """A producer and an administrator."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    async def send(self, topic: str, *values: bytes, number: int = 0) -> int:
        """Sends records, and returns the offset after the last one."""
        producer = AIOKafkaProducer(**connection(self._kafka))
        await producer.start()
        try:
            last = [await producer.send_and_wait(topic, value, partition=number) for value in values][-1]
        finally:
            await producer.stop()
        return int(last.offset) + 1

    async def recreate(self, topic: str) -> None:
        async with admin_client(self._kafka) as admin:
            await remove_topics(admin, topic)
        await ensure_topics(topics.specs(CATALOGUE, (), self._kafka, EngineSettings()), self._kafka)

    async def expire(self, topic: str, before: int, number: int = 0) -> None:
        """Removes records as retention does."""
        async with admin_client(self._kafka) as admin:
            await admin.delete_records({TopicPartition(topic, number): RecordsToDelete(before)})


async def in_lake(settings: S3Settings, topic: str) -> dict[str, list[bytes | None]]:
    """Values in partition 0 by topic id."""
    store = S3Store(settings)
    try:
        return {
            key.topic_id: [row.value_bytes() async for _, rows in verify_chain(store, key) for row in rows]
            for key in await chains(store, topic)
            if key.partition == 0
        }
    finally:
        await store.close()


async def archived(settings: S3Settings, topic: str, last: bytes, workers: Workers) -> dict[str, list[bytes | None]]:
    """Waits until the lake has this value, and returns the topic's values by topic id."""
    found: dict[str, list[bytes | None]] = {}

    async def has_it() -> bool:
        nonlocal found
        workers.check()
        found = await in_lake(settings, topic)
        return any(last in values for values in found.values())

    await until(has_it, message=f"{last!r} is not in the lake")
    return found


@pytest.mark.slow
async def test_a_recreated_topic_is_archived_in_a_new_chain(environment: dict[str, str], tmp_path: Path) -> None:
    broker, s3 = Broker(settings_of(environment, KafkaSettings)), settings_of(environment, S3Settings)
    await broker.recreate(VELOCITY.name)
    await broker.send(VELOCITY.name, b"1", b"2")
    with Workers(environment, tmp_path) as workers:
        worker = workers.start("lake")
        [(old, values)] = (await archived(s3, VELOCITY.name, b"2", workers)).items()
        assert values == [b"1", b"2"]
        assert workers.stop(worker) == 0
        await broker.recreate(VELOCITY.name)
        await broker.send(VELOCITY.name, b"3", b"4")
        worker = workers.start("lake")
        found = await archived(s3, VELOCITY.name, b"4", workers)
        assert found.pop(old) == [b"1", b"2"]
        assert list(found.values()) == [[b"3", b"4"]]
        assert workers.stop(worker) == 0


@pytest.mark.slow
async def test_records_that_expired_before_they_were_archived_stop_the_worker(
    environment: dict[str, str], tmp_path: Path
) -> None:
    broker, s3 = Broker(settings_of(environment, KafkaSettings)), settings_of(environment, S3Settings)
    await broker.send(ALERTS.name, b"first")
    with Workers(environment, tmp_path) as workers:
        worker = workers.start("lake")
        await archived(s3, ALERTS.name, b"first", workers)
        assert workers.stop(worker) == 0
        end = await broker.send(ALERTS.name, b"lost", b"kept")
        await broker.expire(ALERTS.name, end - 1)
        worker = workers.start("lake")
        assert await asyncio.to_thread(worker.wait, 60) == CONTINUITY
        assert "records expired before they were processed" in workers.logs()
        assert b"kept" not in (await in_lake(s3, ALERTS.name)).popitem()[1]
