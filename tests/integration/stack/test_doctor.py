"""Tests `bankstream doctor` on a whole deployment: it finds nothing if all is healthy, and names each part that is broken."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import requests
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.config.settings import ConnectSettings, KafkaSettings, S3Settings, SnowflakeSettings, SourceSettings
from app.config.topics import ALERTS, SCD2_ACCOUNTS, SCD2_CUSTOMERS, VELOCITY
from app.engine.committed_reader import read_all_committed
from app.engine.kafka import KafkaLog, connection
from app.engine.topic_admin import TopicSpec, ensure_topics
from app.local.stack.part import BACKENDS
from app.local.stack.stack import Stack
from app.operations.doctor import Report, examine
from app.operations.doctor.findings import HEALTHY, UNHEALTHY, UNKNOWN
from app.operations.doctor.run import checks, run_check
from app.operations.provision import source
from app.operations.provision.connector import provision as provision_connector
from app.operations.provision.steps import DEFAULT
from app.postgres import lsn_text
from sinks.sessions import open_reader
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import admin_query, s3_client
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import eventually, until
from tests.support.paths import PROJECT
from tests.support.streams.broker import admin_client, remove_topics
from tests.support.streams.workers import Workers

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


class Deployment:
    """All parts and one worker of each kind, with some rows loaded into the warehouse."""

    def __init__(self, stack: Stack, workers: Workers) -> None:
        self.stack, self.workers = stack, workers
        self.environment = stack.environment()
        self.kafka = settings_of(stack, KafkaSettings)
        self.sources = settings_of(stack, SourceSettings)
        self.started = {kind: workers.start(kind) for kind in ("streams", "lake", "warehouse")}

    def sql(self, statement: str) -> list[Any]:
        """Runs a statement as the administrator."""
        return admin_query(self.sources, statement)

    def warehouse(self, statement: str) -> list[Any]:
        with open_reader(settings_of(self.stack, SnowflakeSettings)) as reader:
            return reader.rows(statement)

    def connector(self, method: str, path: str) -> None:
        session = requests.Session()
        session.trust_env = False
        session.request(
            method, f"{self.environment['BANKSTREAM_CONNECT_URL']}/connectors/bank/{path}", timeout=30
        ).raise_for_status()

    def s3(self) -> Any:
        return s3_client(settings_of(self.stack, S3Settings))

    async def examine(self, *names: str) -> Report:
        """Runs these checks, or all."""
        made = {name: check for name, check in checks(self.environment).items() if not names or name in names}
        assert set(names) <= made.keys()
        return Report(tuple(await asyncio.gather(*(run_check(name, check) for name, check in made.items()))))

    async def finds(self, code: str, *names: str, timeout_s: float = 30) -> str:
        """Waits for this finding and returns its message. All findings must be of this kind."""
        report = Report(())

        async def found() -> bool:
            nonlocal report
            report = await self.examine(*names)
            return code in {finding.code for finding in report.findings}

        await until(found, timeout_s=timeout_s, message=f"no finding {code}")
        assert {finding.code for finding in report.findings} == {code}, report
        return report.findings[0].message

    async def healed(self, *names: str, timeout_s: float = 120) -> None:
        """Waits until these checks find nothing."""

        async def healthy() -> bool:
            return not (await self.examine(*names)).findings

        await until(healthy, timeout_s=timeout_s, message=f"{names} still find something")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("doctor")
    with private_stack(*BACKENDS, steps=DEFAULT) as stack, Workers(stack.environment(), home) as workers:
        made = Deployment(stack, workers)
        made.sql(
            "INSERT INTO customers (name, country_code) VALUES ('Ada', 'GB'), ('Grace', 'US'), ('Alan', 'GB'), ('Emmy', 'DE')"
        )
        made.sql(
            "INSERT INTO accounts (customer_id, type, currency) SELECT customer_id, 'checking', 'EUR' FROM customers"
        )

        def loaded() -> bool:
            workers.check()
            [(count,)] = made.warehouse("SELECT count(*) FROM BRONZE.SCD2_ACCOUNTS")
            return bool(count == 4)

        eventually(loaded, timeout_s=120)
        yield made


def scd2(deployment: Deployment, topic: str) -> AsyncIterator[Any]:
    numbers = range(deployment.kafka.partitions)
    return read_all_committed(deployment.kafka, [TopicPartition(topic, number) for number in numbers])


async def vanished(deployment: Deployment, topic: str) -> list[tuple[bytes, int]]:
    """Key and log position of the versions that were closed because a snapshot did not have their row."""
    found = [(record.key, json.loads(record.value)) async for record in scd2(deployment, topic)]
    return [(key, value["source"]["lsn"]) for key, value in found if value["reason"] == "vanished"]


def run(deployment: Deployment, *arguments: str) -> tuple[int, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BANKSTREAM_")}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], cwd=PROJECT, capture_output=True, timeout=240, check=False,
        env={**kept, **deployment.environment, "COLUMNS": "200"},
    )  # fmt: skip
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def secrets(deployment: Deployment) -> list[str]:
    return [value for key, value in deployment.environment.items() if "PASSWORD" in key or "SECRET" in key]


# the order matters in this module: the tests whose damage cannot be repaired are last


async def test_a_healthy_deployment_has_no_finding_and_everything_was_checked(deployment: Deployment) -> None:
    report = Report(())

    async def healthy() -> bool:  # on a slow machine the group may still be joining
        nonlocal report
        report = await deployment.examine()
        return not report.findings and report.exit_code == HEALTHY

    await until(healthy, timeout_s=180)
    assert [outcome.could_not for outcome in report.outcomes] == [""] * len(checks(deployment.environment))


def test_the_command_reports_no_finding_with_exit_code_0_and_shows_no_secret(deployment: Deployment) -> None:
    code, output = run(deployment, "doctor", "--json")
    assert code == HEALTHY, output
    report = json.loads(output.splitlines()[-1])
    assert report["healthy"] is True
    assert len(report["checks"]) == len(checks(deployment.environment))
    assert not [secret for secret in secrets(deployment) if secret in output]


async def test_a_part_that_is_down_does_not_prevent_other_checks(deployment: Deployment) -> None:
    variables = deployment.environment | {
        "BANKSTREAM_POSTGRES_PORT": "1",
        "BANKSTREAM_CONNECT_URL": "http://127.0.0.1:1",
        "BANKSTREAM_S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "BANKSTREAM_SNOWFLAKE_PORT": "1",
        "BANKSTREAM_SNOWFLAKE_LOGIN_TIMEOUT_S": "2",
    }
    report = await examine(variables)
    assert report.exit_code == UNKNOWN
    made = {outcome.check for outcome in report.outcomes if not outcome.could_not}
    assert made == {"topics", "streams positions", "streams workers", "lake workers", "warehouse workers"}


SOURCE: list[tuple[str, str, str, str]] = [
    ("publication-tables", "ALTER PUBLICATION bank DROP TABLE accounts", "ALTER PUBLICATION bank ADD TABLE accounts", "lacks accounts"),
    ("publication-tables", "ALTER PUBLICATION bank ADD TABLE fraud_labels", "ALTER PUBLICATION bank DROP TABLE fraud_labels", "also has"),
    (
        "publication-operations", "ALTER PUBLICATION bank SET (publish = 'insert, update, delete')",
        "ALTER PUBLICATION bank SET (publish = 'insert, update, delete, truncate')", "truncate",
    ),
    (
        "publication-filter", "ALTER PUBLICATION bank SET TABLE accounts, heartbeat, transactions, customers WHERE (customer_id > 0)",
        "ALTER PUBLICATION bank SET TABLE accounts, heartbeat, transactions, customers", "customers",
    ),
    ("replica-identity", "ALTER TABLE customers REPLICA IDENTITY DEFAULT", "ALTER TABLE customers REPLICA IDENTITY FULL", "customers"),
    (
        "source-migrations", "UPDATE schema_migrations SET sha256 = 'x' || sha256 WHERE version = 1",
        "UPDATE schema_migrations SET sha256 = substr(sha256, 2) WHERE version = 1", "has changed",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "harm", "mend", "says"), SOURCE, ids=[f"{row[0]}-{row[3]}" for row in SOURCE])
async def test_errors_in_the_source_are_named(
    deployment: Deployment, code: str, harm: str, mend: str, says: str
) -> None:
    deployment.sql(harm)
    try:
        assert says in await deployment.finds(code, "source tables")
    finally:
        deployment.sql(mend)


PRIVILEGES: list[tuple[str, str, str]] = [
    (
        "privilege-missing",
        "REVOKE SELECT ON accounts FROM bank_replication",
        "bank_replication lacks SELECT on accounts",
    ),
    (
        "privilege-missing",
        "REVOKE UPDATE (beat_at) ON heartbeat FROM bank_replication",
        "bank_replication lacks UPDATE on heartbeat.beat_at",
    ),
    ("privilege-excess", "GRANT DELETE ON accounts TO bank_reader", "bank_reader has DELETE on accounts"),
    ("privilege-excess", "GRANT SELECT ON customers TO PUBLIC", "everybody has SELECT on customers"),
    ("role-missing", "ALTER ROLE bank_app NOLOGIN", "role bank_app lacks LOGIN"),
]


@pytest.mark.parametrize(("code", "harm", "says"), PRIVILEGES, ids=[row[2] for row in PRIVILEGES])
async def test_missing_and_excess_privileges_are_named(deployment: Deployment, code: str, harm: str, says: str) -> None:
    deployment.sql(harm)
    try:
        assert await deployment.finds(code, "source privileges") == says
    finally:
        await asyncio.to_thread(source.provision, deployment.sources, CATALOGUE)
    assert not (await deployment.examine("source privileges")).findings


async def test_a_connector_that_is_paused_or_set_otherwise_is_named_without_its_values(deployment: Deployment) -> None:
    await asyncio.to_thread(deployment.connector, "PUT", "pause")
    assert "PAUSED" in await deployment.finds("connector-state", "connector")
    await asyncio.to_thread(deployment.connector, "PUT", "stop")
    await deployment.finds("slot-inactive", "source slot", timeout_s=60)
    assert "STOPPED" in await deployment.finds("connector-state", "connector")
    deployment.sql("UPDATE heartbeat SET beat_at = now() - interval '5 minutes'")
    report = await deployment.examine("source slot")
    assert {finding.code for finding in report.findings} == {"slot-inactive", "heartbeat-still"}
    await asyncio.to_thread(deployment.connector, "PUT", "resume")
    await deployment.healed("connector", "source slot")
    session = requests.Session()
    session.trust_env = False
    url = f"{deployment.environment['BANKSTREAM_CONNECT_URL']}/connectors/bank/config"
    stored = session.get(url, timeout=30).json()
    password = deployment.environment["BANKSTREAM_POSTGRES_REPLICATION_PASSWORD"]
    put = session.put(url, json={**stored, "poll.interval.ms": "500", "database.password": password}, timeout=30)
    assert put.ok, put.text
    code, output = await asyncio.to_thread(run, deployment, "doctor")
    assert code == UNHEALTHY
    assert "connector-settings" in output
    assert "connector-secret" in output
    assert "database.password, poll.interval.ms" in output
    assert not [secret for secret in secrets(deployment) if secret in output]
    await asyncio.to_thread(
        provision_connector, settings_of(deployment.stack, ConnectSettings), deployment.sources, CATALOGUE
    )
    await deployment.healed("connector", "source slot", "capture position")


@pytest.fixture
async def admin(deployment: Deployment) -> AsyncIterator[AIOKafkaAdminClient]:
    async with admin_client(deployment.kafka) as made:
        yield made


async def set_config(admin: AIOKafkaAdminClient, topic: str, **config: str) -> None:
    named = {key.replace("_", "."): value for key, value in config.items()}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])


async def test_a_topic_with_another_policy_or_limit_is_named(
    deployment: Deployment, admin: AIOKafkaAdminClient
) -> None:
    topic = "bankstream-streams-by-account-accounts-changelog"
    whole = {
        "cleanup_policy": "compact",
        "retention_ms": "-1",
        "max_message_bytes": "16781312",
        "min_insync_replicas": "1",
    }
    await set_config(admin, topic, **whole | {"cleanup_policy": "delete"})
    assert "cleanup.policy=delete instead of compact" in await deployment.finds("topic-policy", "topics")
    await set_config(admin, topic, **whole | {"max_message_bytes": "1000000"})
    assert "max.message.bytes=1000000" in await deployment.finds("topic-size", "topics")
    await set_config(admin, topic, **whole)
    assert not (await deployment.examine("topics")).findings


async def test_a_missing_worker_is_named(deployment: Deployment) -> None:
    worker = deployment.started.pop("warehouse")
    assert await asyncio.to_thread(deployment.workers.stop, worker) == 0
    assert "no warehouse worker" in await deployment.finds("worker-absent", "warehouse workers")
    deployment.started["warehouse"] = deployment.workers.start("warehouse")
    await deployment.healed("warehouse workers")


async def test_tables_of_the_warehouse_that_are_gone_are_named(deployment: Deployment) -> None:
    deployment.warehouse("ALTER TABLE BRONZE.DEAD_LETTERS RENAME TO DEAD_LETTERS_AWAY")
    try:
        assert "BRONZE.DEAD_LETTERS" in await deployment.finds("warehouse-table", "warehouse tables")
    finally:
        deployment.warehouse("ALTER TABLE BRONZE.DEAD_LETTERS_AWAY RENAME TO DEAD_LETTERS")


# the damage of the tests from here on stays


async def send(deployment: Deployment, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(**connection(deployment.kafka))
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


def objects(deployment: Deployment, topic: str) -> list[str]:
    found = deployment.s3().list_objects_v2(Bucket="bank-lake", Prefix=f"{topic}/")
    return [entry["Key"] for entry in found.get("Contents", ())]


def archived(deployment: Deployment, topic: str, number: int) -> bool:
    return len(objects(deployment, topic)) > number


async def archive(deployment: Deployment, topic: str, count: int) -> list[str]:
    """Archives and loads this number of objects of partition 0, with one record each."""
    for number in range(count):
        await send(deployment, topic, b'{"n":%d}' % number)
        await asyncio.to_thread(eventually, partial(archived, deployment, topic, number), timeout_s=30)
    where = f"SELECT count(*) FROM BRONZE.LAKE_LEDGER WHERE topic = '{topic}' AND last_offset >= {count - 1}"  # noqa: S608 - ours
    await asyncio.to_thread(eventually, lambda: deployment.warehouse(where) == [(1,)], timeout_s=180)
    return sorted(objects(deployment, topic))


async def test_objects_that_were_removed_are_named_with_their_offsets(deployment: Deployment) -> None:
    names = await archive(deployment, VELOCITY.name, 3)
    s3 = deployment.s3()
    s3.delete_object(Bucket="bank-lake", Key=names[1])
    assert "offsets 1 to 1 are missing" in await deployment.finds("chain-broken", "lake")
    s3.delete_object(Bucket="bank-lake", Key=names[2])
    message = await deployment.finds("ledger-ahead", "ledger")
    assert "loaded through offset 2, the lake has only through offset 0" in message
    assert not [f for f in (await deployment.examine("ledger")).findings if f.subject != f"{VELOCITY.name}/0"]


async def test_records_that_expired_before_they_were_archived_are_named_with_their_offsets(
    deployment: Deployment, admin: AIOKafkaAdminClient
) -> None:
    await archive(deployment, ALERTS.name, 1)
    assert await asyncio.to_thread(deployment.workers.stop, deployment.started.pop("lake")) == 0
    await send(deployment, ALERTS.name, b"1", b"2", b"3")
    await admin.delete_records({TopicPartition(ALERTS.name, 0): RecordsToDelete(3)})
    report = await deployment.examine("lake")
    [finding] = [f for f in report.findings if f.code == "lake-expired"]
    assert "offsets 1 to 2 are in neither" in finding.message
    assert f"bankstream gaps accept lake {ALERTS.name}/0" in finding.advice


async def test_a_slot_that_was_dropped_or_recreated_is_named_with_the_range_that_was_not_captured(
    deployment: Deployment,
) -> None:
    stop: Callable[[str], None] = deployment.stack.stop
    await asyncio.to_thread(stop, "connect")
    await asyncio.to_thread(
        eventually, lambda: not deployment.sql("SELECT FROM pg_replication_slots WHERE active"), timeout_s=30
    )
    # Connect stops between two heartbeats: the last one may be in Kafka and not yet confirmed to the slot.
    [(confirmed, before)] = deployment.sql(
        "SELECT confirmed_flush_lsn, pg_current_wal_insert_lsn() FROM pg_replication_slots"
    )
    deployment.sql("SELECT pg_drop_replication_slot('bank')")
    deployment.sql("DELETE FROM transactions")
    deployment.sql("DELETE FROM accounts")
    [(after,)] = deployment.sql("SELECT pg_current_wal_insert_lsn()")
    report = await deployment.examine("source slot")
    assert [finding.code for finding in report.findings][:1] == ["slot-missing"]
    deployment.sql("SELECT pg_create_logical_replication_slot('bank', 'pgoutput')")
    await asyncio.to_thread(deployment.stack.start, "connect")
    await asyncio.to_thread(
        provision_connector, settings_of(deployment.stack, ConnectSettings), deployment.sources, CATALOGUE
    )
    message = await deployment.finds("capture-gap", "capture history", timeout_s=60)
    [(last, resumed)] = re.findall(r"changes between (\S+) and (\S+) \(", message)
    [(covered,)] = deployment.sql(
        f"SELECT pg_lsn '{confirmed}' <= '{last}' AND pg_lsn '{last}' <= '{before}' AND pg_lsn '{before}' < '{after}' "
        f"AND pg_lsn '{after}' <= '{resumed}'"
    )
    assert covered, (confirmed, last, before, after, resumed)
    assert not await vanished(deployment, SCD2_ACCOUNTS.name), "no row of accounts tells that there are none any more"
    code, told = run(
        deployment,
        "gaps",
        "accept",
        "capture",
        "bank",
        "--range",
        f"{last}..{resumed}",
        "--reason",
        "the slot was dropped",
    )
    assert code == 0, told
    assert "accounts was empty when capture restarted" in told
    assert "customers was empty" not in told

    async def all_vanished() -> bool:
        return len(await vanished(deployment, SCD2_ACCOUNTS.name)) >= 4

    await until(all_vanished, timeout_s=60)
    assert {key for key, _ in await vanished(deployment, SCD2_ACCOUNTS.name)} == {
        record.key async for record in scd2(deployment, SCD2_ACCOUNTS.name)
    }
    assert {resumed} == {lsn_text(lsn) for _, lsn in await vanished(deployment, SCD2_ACCOUNTS.name)}
    assert not await vanished(deployment, SCD2_CUSTOMERS.name)


async def test_a_recreated_topic_is_named_for_the_streams_and_for_the_lake(
    deployment: Deployment, admin: AIOKafkaAdminClient
) -> None:
    assert await asyncio.to_thread(deployment.workers.stop, deployment.started.pop("streams")) == 0
    await asyncio.to_thread(deployment.stack.stop, "connect")
    topic = "bank.public.accounts"
    async with KafkaLog(deployment.kafka) as log:
        partitions = (await log.require([topic]))[topic].partitions
        old = (await log.require([topic]))[topic].id
    await remove_topics(admin, topic)
    report = await deployment.examine("topics")
    assert [(f.code, f.subject) for f in report.findings] == [("topic-missing", topic)]
    await ensure_topics([TopicSpec(topic, partitions, {})], deployment.kafka)
    report = await deployment.examine("streams positions", "lake")
    codes = {finding.code for finding in report.findings}
    assert {"topic-recreated", "lake-recreated"} <= codes
    assert all(str(old) in f.message for f in report.findings if f.code == "topic-recreated")
    await admin.create_partitions({topic: NewPartitions(partitions + 1)})
    report = await deployment.examine("topics")
    assert "topic-partitions" in {finding.code for finding in report.findings}
