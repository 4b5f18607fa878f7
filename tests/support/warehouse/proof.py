"""A small bank whose records are all in Kafka, in the lake, in the landing tables with their ledger, and in gold.

The agents of the streams worker derive the records; the code of the lake and of the loader writes objects and rows, in this process.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from app.config.settings import (
    EngineSettings,
    KafkaSettings,
    LakeSettings,
    S3Settings,
    SnowflakeSettings,
    SourceSettings,
    WarehouseSettings,
)
from app.domain.times import format_us
from app.engine.kafka import KafkaLog, connection
from app.engine.topic_admin import ensure_topics
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.dbt.build import PROJECT
from app.operations.provision import lake, topics, warehouse
from app.operations.provision.source import provision
from sinks.archive import LakePartition
from sinks.base import LakeObject
from sinks.chain import parse
from sinks.loader import Loader
from sinks.s3 import S3Store
from sinks.sessions import open_reader
from sinks.snowflake import SnowflakeWarehouse
from tests.support.bank.bank_day import account, customer, transaction
from tests.support.bank.cdc import CdcLog, Record
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import drop_database, s3_client
from tests.support.machine.stack import StackPool, settings_of
from tests.support.machine.waiting import until
from tests.support.streams.topology_driver import TopologyDriver
from tests.support.warehouse.sinks import FailureRecorder, Running, archived

ROWS_AN_OBJECT = 2


@dataclass
class Proof:
    """The bank. `records` are those of each topic, all in partition 0, as Kafka has them."""

    environment: dict[str, str]
    records: dict[str, list[Record]] = field(default_factory=dict)
    objects: dict[str, list[LakeObject]] = field(default_factory=dict)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement in the warehouse and returns its rows."""
        with open_reader(settings_of(self.environment, SnowflakeSettings)) as reader:
            return reader.rows(statement)

    @property
    def database(self) -> str:
        """The warehouse's database."""
        return self.environment["BANKSTREAM_SNOWFLAKE_DATABASE"]

    def s3(self) -> Any:
        """A client of the lake's bucket."""
        return s3_client(settings_of(self.environment, S3Settings))

    def stored(self, name: str) -> dict[str, str]:
        """The bucket and key of an object as arguments for boto."""
        found = settings_of(self.environment, S3Settings)
        return {"Bucket": found.bucket, "Key": f"{found.prefix}/{name}"}

    def holding(self, record: Record) -> LakeObject:
        """The object that contains this record."""
        return next(
            it for it in self.objects[record.topic] if it.first_offset <= record.offset <= it.last_offset
        )  # fmt: skip


def changes() -> list[Record]:
    """The records of the bank's connector, in order. Kafka assigns the offsets."""
    customers, accounts = CdcLog("customers", "customer_id"), CdcLog("accounts", "account_id")
    booked = CdcLog("transactions", "account_id")
    opening = format_us(customers.commit_us)
    made: list[Record] = []
    ada, bob = customer(1, opening), customer(2, opening)
    made += [customers.change("c", after=ada), customers.change("c", after=bob)]
    made += [accounts.change("c", after=account(10, 1, opening)), accounts.change("c", after=account(20, 2, opening))]
    made.append(customers.change("u", before=ada, after=ada | {"city": "Bergen", "country_code": "NO"}))
    for key, amount in enumerate(("1.00", "1.50", "0.99", "12000.00", "250.00"), 100):
        at = format_us(booked.commit_us + 1_000_000)
        made.append(booked.change("c", after=transaction(key, 10, at, amount=amount)))
    made += [customers.change("d", before=bob), customers.append(b'{"customer_id":2}', None)]
    spaced = customers.change("c", after=customer(3, opening))
    assert spaced.value is not None
    made.append(Record(spaced.topic, b" %s " % spaced.value, spaced.key, timestamp=spaced.timestamp))
    made.append(customers.append(b'{"customer_id":9}', b"\x00\x01 no JSON"))
    return made


async def fill(bank: Proof) -> None:
    """Writes the records to Kafka, the lake and the landing tables."""
    kafka = settings_of(bank.environment, KafkaSettings)
    producer = AIOKafkaProducer(**connection(kafka))
    await producer.start()
    try:
        streams = TopologyDriver()
        for change in changes():
            record = await _sent(producer, change)
            bank.records.setdefault(record.topic, []).append(record)
            for output in streams.take(record, now_us=record.timestamp * 1000):
                if output.topic in {topic.name for topic in CATALOGUE.landed}:
                    derived = Record(output.topic, output.value, output.key)
                    bank.records.setdefault(output.topic, []).append(await _sent(producer, derived))
    finally:
        await producer.stop()
    await _load(bank, kafka)


async def _sent(producer: AIOKafkaProducer, record: Record) -> Record:
    """Sends a record with the current time as its timestamp, because Kafka would delete older records before the test reads them."""
    now_ms = time.time_ns() // 1_000_000
    sent = await producer.send_and_wait(
        record.topic, key=record.key, value=record.value, partition=0, timestamp_ms=now_ms
    )
    return Record(record.topic, record.value, record.key, 0, sent.offset, now_ms)


async def _load(bank: Proof, kafka: KafkaSettings) -> None:
    store, tables = S3Store(settings_of(bank.environment, S3Settings)), None
    try:
        async with KafkaLog(kafka) as log:
            ids = {name: str(info.id) for name, info in (await log.require(bank.records)).items()}
        for topic, records in bank.records.items():
            bank.objects[topic] = await _archive(store, topic, ids[topic], records)
        tables = SnowflakeWarehouse(settings_of(bank.environment, SnowflakeSettings))
        landing = {topic.name: topic.landing for topic in CATALOGUE.landed if topic.landing is not None}
        loader = Loader(tables, store, landing, WarehouseSettings(load_interval_ms=0), fail=FailureRecorder())
        async with Running(loader):
            ends = [(parse(found[-1].object)[0], found[-1].last_offset) for found in bank.objects.values()]
            await until(lambda: all(loader.is_loaded(key, last) for key, last in ends))
    finally:
        if tables is not None:
            await tables.close()
        await store.close()


async def _archive(store: S3Store, topic: str, topic_id: str, records: Sequence[Record]) -> list[LakeObject]:
    made: list[LakeObject] = []

    async def asked_topic_id() -> str:
        return topic_id

    one = LakePartition(
        topic, 0, store=store, topic_id=asked_topic_id, announce=made.append, slots=asyncio.Semaphore(1), fail=FailureRecorder(),
        settings=LakeSettings(max_rows=ROWS_AN_OBJECT, max_age_ms=50),
    )  # fmt: skip
    await one.open()
    await one.process(records)
    await archived(one, records[-1].offset + 1)
    await one.close()
    return made


def models(bank: Proof) -> None:
    """Builds silver and gold without dbt's tests, which are tested elsewhere."""
    home = bank.environment["BANKSTREAM_HOME"]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "dbt.cli.main",
        "--no-use-colors",
        "run",
        "--project-dir",
        PROJECT,
        "--profiles-dir",
        PROJECT,
    ]
    command += ["--target-path", f"{home}/target", "--log-path", f"{home}/logs", "--vars", "{settle_seconds: 0}"]
    done = subprocess.run(
        command, env=os.environ | bank.environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout[-4_000:]


@pytest.fixture(scope="session")
def proof(workers_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    """The bank without PostgreSQL and models. A test that changes something must restore it."""
    name = f"T{uuid4().hex[:12].upper()}"
    bank = Proof(
        workers_stack.environment()
        | {
            "BANKSTREAM_S3_PREFIX": name,
            "BANKSTREAM_SNOWFLAKE_DATABASE": name,
            "BANKSTREAM_HOME": str(tmp_path_factory.mktemp("proof")),
        }
    )
    kafka = settings_of(bank.environment, KafkaSettings)
    asyncio.run(ensure_topics(topics.specs(CATALOGUE, (), kafka, EngineSettings()), kafka))
    lake.run(bank.environment)
    warehouse.run(bank.environment)
    asyncio.run(fill(bank))
    yield bank
    bank.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def modelled(proof: Proof, stack_pool: StackPool) -> Iterator[Proof]:
    """The bank with silver and gold, and a PostgreSQL whose WAL position is above all of its changes."""
    postgres = stack_pool.get(Part.POSTGRES).environment()
    proof.environment |= {key: value for key, value in postgres.items() if "_POSTGRES_" in key}
    proof.environment["BANKSTREAM_POSTGRES_DBNAME"] = f"proof_{proof.database.lower()}"
    source = settings_of(proof.environment, SourceSettings)
    provision(source, CATALOGUE)
    models(proof)
    yield proof
    drop_database(source)
