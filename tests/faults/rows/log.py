"""Faults of the log: repeated changes, repeated snapshots, and aborted Kafka transactions (matrix 17, 20)."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition

from app.config.settings import ConnectSettings, KafkaSettings, SourceSettings
from app.engine.kafka import connection
from app.operations.provision import connector
from app.proof.reconcile import barrier
from tests.faults.bank import Bank
from tests.faults.capture_check import INJECTED
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.logs import Reader
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

MARK: Final = ((INJECTED, b"1"),)
SUFFIX: Final = 500
WAIT_S: Final = 180.0
OPEN_S: Final = 5.0
"""How long the transaction stays open before its abort. It blocks read-committed consumers meanwhile."""


def replayed(last: int | None) -> Callable[[Bank, random.Random], Firing]:
    """Sends the last changes of each partition again, in their order, like a connector that lost its position. None: all changes."""

    def fire(bank: Bank, _: random.Random) -> Firing:
        at = time.time()
        count = asyncio.run(_again(bank.kafka, last))
        if not count:
            raise NotFiredError("there was nothing to replay")
        return Firing(f"{count} changes came again", at)

    return fire


def aborted(bank: Bank, _: random.Random) -> Firing:
    """Aborts a transaction on the CATALOGUE.cdc topics after OPEN_S. Proof: the offsets that it used."""
    at = time.time()
    count, taken = asyncio.run(_abort(bank.kafka))
    if taken < count:
        raise NotFiredError(f"{count} records were sent, but the logs grew by {taken}")
    return Firing(f"{count} records aborted after {OPEN_S:.0f} s", at)


def snapshot_anew(bank: Bank, _: random.Random) -> Firing:
    """Drops the replication slot when all changes are captured. The connector then reads all rows in a new snapshot."""
    rate = bank.load.rate
    bank.load.stop()
    asyncio.run(everything_captured(bank))
    before = asyncio.run(_ends(bank.kafka))
    bank.stack.stop("connect")
    eventually(
        lambda: not bank.query("SELECT FROM pg_replication_slots WHERE active"),
        timeout_s=WAIT_S,
        message="the slot stays active",
    )
    bank.query("SELECT pg_drop_replication_slot('bank')")
    at = time.time()
    bank.stack.start("connect")
    connector.provision(
        settings_of(bank.environment, ConnectSettings), settings_of(bank.environment, SourceSettings), CATALOGUE
    )
    asyncio.run(everything_captured(bank))
    after = asyncio.run(_ends(bank.kafka))
    grown = sum(after.values()) - sum(before.values())
    (rows,) = bank.query(
        "SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM accounts) + (SELECT count(*) FROM transactions)"
    )
    if grown < int(str(rows[0])):
        raise NotFiredError(f"the logs grew by {grown} only, and there are {rows[0]} rows")
    bank.load.start(rate)
    return Firing(f"{rows[0]} rows were read anew", at)


async def everything_captured(bank: Bank) -> None:
    """Waits until every change committed before the call is in Kafka."""
    source = settings_of(bank.environment, SourceSettings)
    await barrier.everything_committed(
        bank.kafka, source, [topic.name for topic in CATALOGUE.cdc], timeout_s=WAIT_S, on_progress=lambda _: None
    )


async def _ends(kafka: KafkaSettings) -> Mapping[TopicPartition, int]:
    async with Reader(kafka, dict.fromkeys(_partitions(kafka), 0)) as reader:
        return reader.ends


async def _again(kafka: KafkaSettings, last: int | None) -> int:
    tps = _partitions(kafka)
    count = 0
    async with AIOKafkaProducer(**connection(kafka), linger_ms=20, max_request_size=16 << 20) as producer:
        ends = await _ends(kafka)
        starts = {tp: 0 if last is None else max(0, ends[tp] - last) for tp in tps}
        async with Reader(kafka, dict(starts)) as reader:
            for tp in tps:
                async for page in reader.pages(tp):
                    for record in page:
                        if not any(name == INJECTED for name, _ in record.headers):
                            await _send(producer, tp, record)
                            count += 1
        await producer.flush()
    return count


async def _abort(kafka: KafkaSettings) -> tuple[int, int]:
    tps = _partitions(kafka)
    ends = await _ends(kafka)
    records: list[tuple[TopicPartition, Any]] = []
    async with Reader(kafka, {tp: max(0, end - SUFFIX) for tp, end in ends.items()}) as reader:
        for tp in tps:
            records += [(tp, record) for record in await reader.take(tp, SUFFIX)]
    producer = AIOKafkaProducer(**connection(kafka), transactional_id="faults-aborted", max_request_size=16 << 20)
    await producer.start()
    try:
        await producer.begin_transaction()
        for tp, record in records:
            # a row that does not exist in PostgreSQL: if it were processed, all its state and output would be surplus
            value = record.value and record.value.replace(b'_id":', b'_id":9', 2)
            await _send(producer, tp, record, value)
        await producer.flush()
        await asyncio.sleep(OPEN_S)
        await producer.abort_transaction()
    finally:
        await producer.stop()
    after = await _ends(kafka)
    return len(records), sum(after[tp] - ends[tp] for tp in tps)


async def _send(producer: AIOKafkaProducer, tp: TopicPartition, record: Any, value: bytes | None = None) -> None:
    headers: Sequence[tuple[str, bytes]] = (*record.headers, *MARK)
    await producer.send(
        tp.topic, value or record.value, record.key, tp.partition, record.timestamp, headers=list(headers)
    )


def _partitions(kafka: KafkaSettings) -> list[TopicPartition]:
    return [TopicPartition(topic.name, number) for topic in CATALOGUE.cdc for number in range(kafka.partitions)]


HOLDS: Final = "nothing is lost, duplicated or wrong: repeated changes have no effect"
ROWS = (
    Fault("log-replayed-suffix", 17, f"the last {SUFFIX} changes of every partition are sent again", HOLDS, replayed(SUFFIX), times=2),
    Fault("log-replayed-whole", 17, "all changes are sent again", HOLDS, replayed(None)),
    Fault("snapshot-anew", 17, "the slot is dropped and created again: a snapshot reads every row again", HOLDS, snapshot_anew),
    Fault(
        "transaction-aborted", 20, f"a transaction on the captured topics, open for {OPEN_S:.0f} s and then aborted",
        "it has no effect; the records behind it are processed after the abort", aborted, times=2, weight=1,
    ),
)  # fmt: skip
