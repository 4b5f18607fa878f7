"""Tests the streams worker on a real broker: killed under load, it emits each record once, equal to the output of the agents in memory."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.config.settings import KafkaSettings
from app.domain.money import to_decimal
from app.domain.times import format_us
from app.engine.kafka import connection
from app.engine.keys import partition_for
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import TOPICS
from tests.support.bank.cdc import COMMIT_US, CdcLog, Record
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import until
from tests.support.streams.topology_driver import TopologyDriver
from tests.support.streams.workers import Workers

pytestmark = pytest.mark.integration

CUSTOMERS, TRANSACTIONS, KILLS, SEED = 60, 6_000, 4, 11
DERIVED = (
    "bank.scd2.customers",
    "bank.scd2.accounts",
    "bank.transactions",
    "bank.velocity",
    "bank.alerts",
    "bank.dead-letters",
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with private_stack(Part.KAFKA, steps=(TOPICS,)) as running:
        yield running


def rows() -> tuple[list[Record], list[Record]]:
    """Customers with one account each, then their transactions with corrections, deletions, replays and unreadable records."""
    rnd = random.Random(SEED)
    people, money, moves = (
        CdcLog("customers", "customer_id"),
        CdcLog("accounts", "account_id"),
        CdcLog("transactions", "account_id", lsn=10**6),
    )
    for key in range(CUSTOMERS):
        customer = {"customer_id": key, "name": f"Customer {key}", "city": "Oslo", "updated_at": "2026-03-02T09:00:00Z"}
        people.change("c", after=customer)
        if key % 2:
            people.change("u", before=customer, after=customer | {"city": "Bergen"})
        money.change(
            "c", after={"account_id": key, "customer_id": key, "type": "checking", "currency": "EUR", "balance": "0.00"}
        )
    recent: list[tuple[dict[str, Any], Record]] = []
    for key in range(TRANSACTIONS):
        booked_us = COMMIT_US + key * 200_000 - rnd.choice((0, 0, 0, 90_000_000))
        row = {
            "transaction_id": key, "account_id": rnd.randrange(CUSTOMERS), "type": rnd.choice(("credit", "debit")),
            "amount": to_decimal(rnd.choice((1, 100, 500)) * rnd.randrange(1, 20_000) // 100 + 1), "currency": "EUR",
            "status": rnd.choice(("pending", "posted", "declined")), "country_code": rnd.choice(("NO", "SE", None)),
            "counterparty_account": rnd.choice(("A", "B", None)),
            "booked_at": format_us(booked_us),
        }  # fmt: skip
        recent.append((row, moves.change("c", after=row)))
        if key % 7 == 0:
            before, _ = rnd.choice(recent[-50:])
            moves.change("u", before=before, after=before | {"status": "reversed"})
        if key % 11 == 0:
            moves.again(rnd.choice(recent[-50:])[1])
        if key % 500 == 0:
            moves.append(b'{"account_id":1}', b"poison")
    return [*people.records, *money.records], moves.records


async def send(kafka: KafkaSettings, records: list[Record], pause_s: float = 0.0) -> None:
    producer = AIOKafkaProducer(**connection(kafka), linger_ms=5)
    await producer.start()
    try:
        for number, record in enumerate(records):
            partition = partition_for(record.key, kafka.partitions)
            await producer.send(record.topic, record.value, record.key, partition, headers=list(record.headers))
            if number % 500 == 499:
                await asyncio.sleep(pause_s)
        await producer.flush()
    finally:
        await producer.stop()


async def collect(
    kafka: KafkaSettings, expected: dict[str, Counter[str]], workers: Workers, *, deadline_s: float
) -> dict[str, Counter[str]]:
    """Reads committed records until the expected number has arrived and all logs are at their end."""
    found: dict[str, Counter[str]] = {topic: Counter() for topic in expected}
    consumer = AIOKafkaConsumer(**connection(kafka), isolation_level="read_committed", fetch_max_wait_ms=100)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for topic in expected for number in range(kafka.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        async with asyncio.timeout(deadline_s):
            while any(found[topic].total() < expected[topic].total() for topic in expected):
                workers.check()
                await _read(consumer, found)
            ends = await consumer.end_offsets(tps)
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                await _read(consumer, found)
    except TimeoutError:
        counts = {topic: (found[topic].total(), expected[topic].total()) for topic in expected}
        raise AssertionError(f"not complete after {deadline_s} s: {counts}\n{workers.logs()}") from None
    finally:
        await consumer.stop()
    return found


async def _read(consumer: AIOKafkaConsumer, found: dict[str, Counter[str]]) -> None:
    for tp, records in (await consumer.getmany(timeout_ms=100)).items():
        found[tp.topic].update(normal(tp.topic, record.value) for record in records)


def normal(topic: str, value: bytes) -> str:
    """A derived record without the fields that depend on the place and time of processing."""
    record = json.loads(value)
    for place in (record.get("source", {}), *record.pop("evidence", ())):
        place.pop("partition", None)
        place.pop("offset", None)
    for name in ("detected_at", "failed_at", *(("partition", "offset") if topic == "bank.dead-letters" else ())):
        record.pop(name, None)
    return json.dumps(record, sort_keys=True)


def in_memory(*batches: list[Record]) -> dict[str, Counter[str]]:
    streams = TopologyDriver()
    for records in batches:
        streams.take(*records)
    found: dict[str, Counter[str]] = {topic: Counter() for topic in DERIVED}
    for output in streams.outputs:
        if output.topic in found and output.value is not None:
            found[output.topic][normal(output.topic, output.value)] += 1
    return found


async def test_two_workers_killed_under_load_emit_every_record_once(stack: Stack, tmp_path: Path) -> None:
    kafka = settings_of(stack, KafkaSettings)
    base, moves = await asyncio.to_thread(rows)
    expected = await asyncio.to_thread(in_memory, base, moves)
    assert expected["bank.velocity"].total() > TRANSACTIONS
    assert expected["bank.alerts"].total() > 0
    rnd = random.Random(SEED)
    with Workers(stack.environment(), tmp_path) as workers:
        workers.start("streams")
        workers.start("streams", by_faust=True)
        await send(kafka, base)
        versions = {topic: expected[topic] for topic in DERIVED[:2]}
        assert await collect(kafka, versions, workers, deadline_s=90) == versions
        load = asyncio.create_task(send(kafka, moves, pause_s=1.0))
        for _ in range(KILLS):
            await asyncio.sleep(rnd.uniform(1, 3))
            workers.kill(rnd.choice(workers.alive))
            workers.start("streams")
        await load
        found = await collect(kafka, expected, workers, deadline_s=120)
        for topic in DERIVED:
            lost, doubled = expected[topic] - found[topic], found[topic] - expected[topic]
            where = f"seed {SEED}, {topic}"
            assert not lost, f"{where}: lost {lost.total()}, such as {list(lost)[:2]}"
            assert not doubled, f"{where}: doubled or wrong {doubled.total()}, such as {list(doubled)[:2]}"


async def test_a_worker_stops_within_seconds_of_sigterm(stack: Stack, tmp_path: Path) -> None:
    with Workers(stack.environment(), tmp_path) as workers:
        worker = workers.start("streams", by_faust=True)

        def is_ready() -> bool:
            workers.check()
            return "ready with" in workers.logs()

        await until(is_ready)
        assert await asyncio.to_thread(workers.stop, worker) == 0, workers.logs()
