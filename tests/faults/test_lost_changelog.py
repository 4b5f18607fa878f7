"""Tests that a worker stops with code 73 and emits nothing again if a changelog is missing, recreated or repartitioned (15)."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from app.config.settings import KafkaSettings
from app.config.topics import CUSTOMERS, SCD2_CUSTOMERS
from app.engine.exits import CONTINUITY
from app.engine.kafka import connection
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import TOPICS
from app.topology.partition_groups import groups
from tests.integration.streams.test_streams_worker import collect, in_memory, rows, send
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import private_stack, settings_of
from tests.support.streams.broker import admin_client
from tests.support.streams.workers import Workers

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

STOPS_WITHIN_S = 120


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with private_stack(Part.KAFKA, steps=(TOPICS,)) as running:
        yield running


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[AIOKafkaAdminClient]:
    async with admin_client(settings_of(stack, KafkaSettings)) as made:
        yield made


async def emitted(kafka: KafkaSettings) -> dict[TopicPartition, int]:
    """The end offsets of the topic of versions."""
    consumer = AIOKafkaConsumer(**connection(kafka))
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(SCD2_CUSTOMERS.name, n) for n in range(kafka.partitions)])
    finally:
        await consumer.stop()
    return dict(ends)


async def test_a_lost_changelog_stops_the_worker_after_every_restart_and_nothing_is_emitted(
    stack: Stack, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    kafka, state = settings_of(stack, KafkaSettings), str(tmp_path / "state")
    base, _ = await asyncio.to_thread(rows)
    expected = {SCD2_CUSTOMERS.name: in_memory(base)[SCD2_CUSTOMERS.name]}
    _, by_customer = groups(CATALOGUE, kafka)
    changelog = by_customer.changelog("customers")
    with Workers(stack.environment(), tmp_path) as workers:

        async def refused(state_dir: str) -> str:
            """Starts a worker that must refuse to run, and returns its log."""
            worker = workers.start("streams", BANKSTREAM_ENGINE_STATE_DIR=state_dir)
            assert await ended(worker) == CONTINUITY, workers.logs()
            workers.alive.remove(worker)
            return (tmp_path / f"worker-{workers.started}-streams.log").read_text()

        worker = workers.start("streams", BANKSTREAM_ENGINE_STATE_DIR=state)
        await send(kafka, base)
        assert await collect(kafka, expected, workers, deadline_s=120) == expected
        assert await asyncio.to_thread(workers.stop, worker, 60) == 0
        ends = await emitted(kafka)
        await admin.delete_topics([changelog])
        assert f"no topic {changelog}" in await refused(state)
        await asyncio.to_thread(TOPICS.run, stack.environment())
        assert f"changelog {changelog}" in await refused(state)
        assert f"changelog {changelog}" in await refused(str(tmp_path / "empty"))
        assert await emitted(kafka) == ends


async def test_an_input_with_more_partitions_than_its_state_stops_the_worker(
    stack: Stack, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    partitions = settings_of(stack, KafkaSettings).partitions + 1
    await admin.create_partitions({CUSTOMERS.name: NewPartitions(partitions)})
    with Workers(stack.environment(), tmp_path) as workers:
        worker = workers.start("streams")
        assert await ended(worker) == CONTINUITY, workers.logs()
        assert f"'{CUSTOMERS.name}': {partitions}" in workers.logs()


async def ended(worker: subprocess.Popen[bytes]) -> int:
    """Waits until the worker has exited by itself, and returns its exit code."""
    return await asyncio.to_thread(worker.wait, STOPS_WITHIN_S)
