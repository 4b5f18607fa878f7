"""Tests capture while parts are killed under load, and after the loss of the slot: every change is captured once."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.config.settings import ConnectSettings, KafkaSettings, PostgresSettings, SourceSettings, WatchSettings
from app.local.simulator.simulation import Simulation, SimulationOptions
from app.local.simulator.statistics import Statistics
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.capture import metrics
from app.operations.capture.connect import ConnectClient
from app.operations.capture.errors import ConnectorError
from app.operations.capture.watcher import Watcher, watch
from app.operations.provision import connector
from app.operations.provision.steps import CONNECTOR, SOURCE, TOPICS
from tests.support.bank.cdc_reader import CdcRecord, read_cdc, rows
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import admin_query
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import eventually
from tests.support.streams.broker import admin_client

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TOPIC = "bank.public.transactions"
HEARTBEAT = "bank.public.heartbeat"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with private_stack(Part.POSTGRES, Part.KAFKA, Part.CONNECT, steps=(SOURCE, TOPICS, CONNECTOR)) as running:
        yield running


def query(stack: Stack, statement: str, *values: object) -> list[Any]:
    """Runs a statement as the administrator and returns its rows."""
    return admin_query(settings_of(stack, SourceSettings), statement, *values)


def read_up_to_now(stack: Stack, topic: str = TOPIC) -> list[CdcRecord]:
    """Reads everything committed before this call: writes a marker, and reads until it arrives."""
    word = uuid4().hex
    query(stack, "UPDATE heartbeat SET marker = %s", word)
    kafka = settings_of(stack, KafkaSettings)

    def marked(records: list[CdcRecord]) -> bool:
        return any((record.value or {}).get("after", {}).get("marker") == word for record in records)

    asyncio.run(read_cdc(kafka, [HEARTBEAT], marked, timeout_s=90))
    return asyncio.run(read_cdc(kafka, [topic], _until_end(), timeout_s=30))


def _until_end() -> Any:
    """Reads until two consecutive reads return nothing new."""
    seen = Counter[int]()

    def quiet(records: list[CdcRecord]) -> bool:
        seen[len(records)] += 1
        return bool(records) and seen[len(records)] > 5

    return quiet


class Bank(threading.Thread):
    """The simulated bank in a thread."""

    def __init__(self, stack: Stack, seed: int, seconds: int) -> None:
        super().__init__()
        options = SimulationOptions(150, 150 * seconds, seed, 0.01, 200)
        self._simulation = Simulation(
            settings_of(stack, PostgresSettings), options, threading.Event().wait, lambda _: None
        )
        self.final: Statistics | None = None

    def run(self) -> None:
        self.final = self._simulation.run()


def assert_captured_once(stack: Stack, since: int) -> None:
    """Checks that every row inserted after this one was captured once, and that the changes give PostgreSQL's current rows."""
    state: dict[int, dict[str, Any]] = {}
    created: Counter[int] = Counter()
    for record in read_up_to_now(stack):
        if record.raw_value is None:
            continue
        value = record.value
        row = value["after"] or value["before"]
        if value["op"] == "d":
            state.pop(row["transaction_id"], None)
        else:
            state[row["transaction_id"]] = row
        created[row["transaction_id"]] += value["op"] == "c"
    held = query(
        stack, "SELECT transaction_id, amount::text, status FROM transactions WHERE transaction_id > %s", since
    )
    assert len(held) > 500
    assert {key: (row["amount"], row["status"]) for key, row in state.items() if key > since} == {
        key: (amount, status) for key, amount, status in held
    }
    assert {count for number, count in created.items() if number > since} == {1}


def newest(stack: Stack) -> int:
    return query(stack, "SELECT coalesce(max(transaction_id), 0) FROM transactions")[0][0] or 0


@pytest.mark.parametrize("part", ["connect", "postgres", "kafka"])
def test_nothing_is_lost_or_duplicated_when_a_part_is_killed_under_load(stack: Stack, part: str) -> None:
    since = newest(stack)
    bank = Bank(stack, seed=len(part), seconds=8)
    bank.start()
    eventually(lambda: newest(stack) > since + 200, timeout_s=30)
    before = stack.pid(part)
    stack.kill(part)
    stack.wait_ready(part, timeout_s=60)
    assert stack.pid(part) != before, "the fault fired"
    bank.join()
    assert bank.final is not None
    assert bank.final.transactions == 1_200
    assert_captured_once(stack, since)


async def _largest_message(kafka: KafkaSettings, topic: str, wanted: int) -> int:
    """Sets a topic's `max.message.bytes` and returns the previous value. All other settings stay."""
    async with admin_client(kafka) as admin:
        described = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        of_the_topic = 1
        found = {
            name: value
            for name, value, _, source, *_ in described[0].resources[0][4]
            if source == of_the_topic or name == "max.message.bytes"
        }
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, {**found, "max.message.bytes": str(wanted)})]
        )
        return int(found["max.message.bytes"])


def test_a_task_that_failed_is_started_again_until_it_runs(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    kafka, stop = settings_of(stack, KafkaSettings), threading.Event()
    before, restarts = asyncio.run(_largest_message(kafka, HEARTBEAT, 20_000)), metrics.RESTARTS._value.get()
    with (
        ConnectClient(settings_of(stack, ConnectSettings)) as client,
        caplog.at_level("INFO", "app.operations.capture"),
    ):
        watcher = Watcher(client, settings_of(stack, SourceSettings), "bank", WatchSettings(longest_pause_s=2))
        watching = threading.Thread(target=watch, args=(watcher, stop.wait, 0.2))
        watching.start()
        try:
            query(stack, "UPDATE heartbeat SET marker = repeat(md5(random()::text), 2000)")
            eventually(lambda: metrics.RESTARTS._value.get() >= restarts + 2, timeout_s=60)
            asyncio.run(_largest_message(kafka, HEARTBEAT, before))
            assert read_up_to_now(stack, HEARTBEAT)
            eventually(lambda: "connector has recovered" in caplog.text, timeout_s=30)
        finally:
            stop.set()
            watching.join(30)
    assert "RecordTooLargeException" in caplog.text


def test_a_lost_slot_is_created_again_and_every_row_is_read_again(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    query(stack, "INSERT INTO customers (name, country_code) VALUES ('before', 'DE')")
    read_up_to_now(stack, "bank.public.customers")
    stack.stop("connect")
    eventually(lambda: not query(stack, "SELECT FROM pg_replication_slots WHERE active"), timeout_s=30)
    reached = query(stack, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'bank'")[0][0]
    with ConnectClient(settings_of(stack, ConnectSettings)) as client:
        watcher = Watcher(client, settings_of(stack, SourceSettings), "bank", WatchSettings())
        watcher.poll()
        assert "replication slot bank is not active" in caplog.text
        query(stack, "SELECT pg_drop_replication_slot('bank')")
        watcher.poll()
    assert f"no replication slot bank. Changes from {reached} on are not captured." in caplog.text
    query(stack, "INSERT INTO customers (name, country_code) VALUES ('while away', 'DE')")
    stack.start("connect")
    assert (
        connector.provision(settings_of(stack, ConnectSettings), settings_of(stack, SourceSettings), CATALOGUE) is False
    )
    names = Counter(row["name"] for row in rows(read_up_to_now(stack, "bank.public.customers"), "r"))
    assert (names["before"], names["while away"]) == (1, 1)
    query(stack, "INSERT INTO customers (name, country_code) VALUES ('after', 'DE')")
    assert "after" in {row["name"] for row in rows(read_up_to_now(stack, "bank.public.customers"), "c")}


def test_a_configuration_that_connect_refuses_is_reported_with_its_message(stack: Stack) -> None:
    settings = settings_of(stack, ConnectSettings).model_copy(update={"connector": "other"})
    with ConnectClient(settings) as client:
        with pytest.raises(ConnectorError, match=r"refuses connector other: .*resolved from the config provider"):
            client.put({**connector.configuration(CATALOGUE), "database.password": "not this one"}, deadline=0)
        assert client.configuration() is None
