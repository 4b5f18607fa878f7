"""Tests lake and warehouse workers on a real broker, S3 and warehouse: every record is loaded once, whichever worker is killed."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from app.config.settings import KafkaSettings, S3Settings, SnowflakeSettings
from app.config.topics import ALERTS, TRANSACTIONS, TRANSACTIONS_CDC, VELOCITY
from app.engine.kafka import connection
from app.errors import ContinuityError
from app.local.stack.stack import Stack
from app.operations.provision import lake, warehouse
from sinks.base import LakeObject, LedgerConflictError, LedgerRow, LoadStep, SinkUnavailableError
from sinks.chain import chains
from sinks.chain_verification import verify_chain
from sinks.s3 import S3Store
from sinks.sessions import open_reader
from sinks.snowflake import SnowflakeWarehouse
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import until
from tests.support.streams.committed import all_committed
from tests.support.streams.workers import Workers
from tests.support.warehouse.real_sinks import Database, real_database, real_world
from tests.support.warehouse.sinks import LANDING, chain_key, offsets, partition, records
from tests.support.web.http_faults import Fault, HttpProxy

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
"""Hostile values that are mixed with ordinary ones and must not stop a load."""


class Feed:
    """Writes to the landed topics in transactions, some of which are aborted."""

    def __init__(self, kafka: KafkaSettings, seed: int) -> None:
        self._kafka, self._chance = kafka, random.Random(seed)
        self.sent = 0

    async def run(self, seconds: float, rate: int) -> None:
        """Writes about `rate` records per second for this time."""
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
    partitions = [TopicPartition(topic.name, number) for topic in CATALOGUE.landed for number in range(PARTITIONS)]
    found = await all_committed(kafka, partitions)
    return {
        (tp.topic, tp.partition): [(r.offset, r.key, r.value) for r in records]
        for tp, records in found.items()
        if records
    }


async def in_lake(settings: S3Settings) -> Contents:
    """All records of the lake, after an audit of its chains."""
    store, found = S3Store(settings), {}
    try:
        for topic in CATALOGUE.landed:
            for key in await chains(store, topic.name):
                rows = [row async for _, lines in verify_chain(store, key) for row in lines]
                found[key.topic, key.partition] = [(r.offset, r.key_bytes(), r.value_bytes()) for r in rows]
        return found
    finally:
        await store.close()


class Reader:
    """Reads from the warehouse."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        self._reader = open_reader(settings)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._reader.rows(sql)

    def ledger(self) -> Mapping[tuple[str, int], int]:
        found = self.rows("SELECT topic, log_partition, last_offset FROM BRONZE.LAKE_LEDGER")
        return {(topic, int(number)): int(offset) for topic, number, offset in found}

    def landed(self) -> Counter[tuple[str, int, int]]:
        """The number of copies of each record."""
        found: Counter[tuple[str, int, int]] = Counter()
        for table in sorted({topic.landing for topic in CATALOGUE.landed if topic.landing}):
            for topic, number, offset in self.rows(
                f"SELECT record:topic::varchar, record:partition::int, record:offset::int FROM BRONZE.{table}"  # noqa: S608
            ):
                assert CATALOGUE.by_name[topic].landing == table
                found[topic, int(number), int(offset)] += 1
        return found

    def close(self) -> None:
        self._reader.close()


async def reached(reader: Reader, expected: Contents, workers: Workers, timeout_s: float = 150) -> None:
    """Waits until the ledger has the last offset of every partition."""
    last = {tp: rows[-1][0] for tp, rows in expected.items()}

    async def has_all() -> bool:
        workers.check()
        return dict(await asyncio.to_thread(reader.ledger)) == last

    await until(has_all, timeout_s=timeout_s, message=f"the ledger is not at {last}")


async def test_every_record_is_archived_and_loaded_once_while_workers_are_killed_under_load(
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
            await asyncio.sleep(3 + 2 * chance.random())  # a kill at a random time has no condition to wait for
            workers.kill(running[name])
            running[name] = workers.start(name.rpartition(" ")[2])
        await feeding
        expected = await in_kafka(kafka)
        assert sum(map(len, expected.values())) > 2_000
        await reached(reader, expected, workers)
        archived = await in_lake(settings_of(environment, S3Settings))
        wrong = {
            tp: sorted({*archived[tp]} ^ {*rows}, key=repr)[:6] for tp, rows in expected.items() if archived[tp] != rows
        }
        assert not wrong, workers.logs()
        landed = reader.landed()
        assert landed == Counter({(*tp, row[0]): 1 for tp, rows in expected.items() for row in rows})
        assert [workers.stop(worker) for worker in list(workers.alive)] == [0, 0, 0]
    reader.close()


# the warehouse's session


@pytest.fixture(scope="module")
def database(workers_stack: Stack) -> Iterator[Database]:
    with real_database(workers_stack) as made:
        yield made


BEGIN, ADVANCE, COPY, COMMIT = range(4)
"""The requests of a load, after the login, the ledger and the new rows of the ledger."""


@pytest.mark.parametrize("fault", ["lost", "reset"])
@pytest.mark.parametrize("request_number", [BEGIN, ADVANCE, COPY, COMMIT], ids=["begin", "advance", "copy", "commit"])
async def test_a_lost_reply_to_any_statement_of_a_load_neither_loses_nor_duplicates_rows(
    database: Database, fault: Fault, request_number: int
) -> None:
    async with real_world(database) as world, HttpProxy(database.sql.host or "", database.sql.port) as faults:
        announced: list[LakeObject] = []
        one = partition(world.store, announce=announced.append, max_rows=2)
        await one.open()
        await one.process(records(*range(6)))
        await until(lambda: one.position == 6)
        await one.close()
        through = SnowflakeWarehouse(
            database.sql.model_copy(update={"host": "127.0.0.1", "port": faults.port, "network_timeout_s": 10})
        )
        try:
            await through.begin([chain_key()])
            armed: list[Fault] = ["pass"] * request_number
            faults.arm("POST", *armed, fault)
            step = LoadStep(chain_key(), LedgerRow(), announced, LANDING)
            with suppress(LedgerConflictError, SinkUnavailableError):
                await through.load([step])
            assert fault in faults.fired
            ledger = (await through.ledger())[chain_key()]
            assert ledger in (step.previous, step.end)
            assert len(world.rows(LANDING)) == (6 if ledger == step.end else 0)
            loader = replace(world, warehouse=through).loader()
            task = asyncio.create_task(loader.run())
            await until(lambda: loader.is_loaded(chain_key(), 5))
            task.cancel()
        finally:
            await through.close()
        assert offsets(world.rows(LANDING)) == [*range(6)]


async def test_a_ledger_with_two_rows_for_a_chain_is_refused(database: Database) -> None:
    async with real_world(database) as world:
        await world.warehouse.begin([chain_key()])
        world.execute("ALTER TABLE BRONZE.LAKE_LEDGER RENAME TO BRONZE.KEPT")
        try:
            world.execute(
                "CREATE TABLE BRONZE.LAKE_LEDGER AS SELECT * FROM BRONZE.KEPT UNION ALL SELECT * FROM BRONZE.KEPT"
            )
            with pytest.raises(ContinuityError, match="two rows"):
                await world.warehouse.ledger()
        finally:
            world.execute("DROP TABLE BRONZE.LAKE_LEDGER")
            world.execute("ALTER TABLE BRONZE.KEPT RENAME TO BRONZE.LAKE_LEDGER")


# setting it up


def test_provisioning_again_changes_nothing(database: Database) -> None:
    database.empty()
    database.execute("INSERT INTO BRONZE.ALERTS SELECT parse_json('1')")
    assert warehouse.provision(database.sql, database.s3, CATALOGUE) == 0
    assert not lake.provision(database.s3)
    assert database.execute("SELECT count(*) FROM BRONZE.ALERTS") == [(1,)]
    assert database.execute("SELECT max(version) FROM BRONZE.SCHEMA_VERSIONS") == [(len(warehouse.MIGRATIONS),)]


def test_a_schema_from_the_future_is_refused(database: Database) -> None:
    database.execute("INSERT INTO BRONZE.SCHEMA_VERSIONS SELECT 1000, SYSDATE()")
    try:
        with pytest.raises(warehouse.WarehouseError, match="newer version of the program"):
            warehouse.provision(database.sql, database.s3, CATALOGUE)
    finally:
        database.execute("DELETE FROM BRONZE.SCHEMA_VERSIONS WHERE version = 1000")


def test_the_error_of_a_refused_stage_contains_no_key(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = database.s3.secret_access_key
    assert secret is not None
    assert secret.get_secret_value() in warehouse.stage(database.sql, database.s3)
    statement = warehouse.stage(database.sql, database.s3).replace("STAGE", "STAGES")
    monkeypatch.setattr(warehouse, "stage", lambda *_: statement)
    with pytest.raises(warehouse.WarehouseError) as refused:
        warehouse.provision(database.sql, database.s3, CATALOGUE)
    assert secret.get_secret_value() not in str(refused.value)


def test_a_storage_integration_takes_the_place_of_keys(database: Database) -> None:
    statement = warehouse.stage(database.sql.model_copy(update={"storage_integration": "LAKE_ACCESS"}), database.s3)
    assert "STORAGE_INTEGRATION = LAKE_ACCESS" in statement
    assert "CREDENTIALS" not in statement


def test_a_bucket_that_s3_refuses_is_named(workers_stack: Stack) -> None:
    with pytest.raises(lake.LakeError, match="BANKSTREAM_S3_BUCKET"):
        lake.provision(settings_of(workers_stack, S3Settings, access_key_id="nobody", max_attempts=1))
