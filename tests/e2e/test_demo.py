"""Tests the demo on the whole stack while a worker is killed: all data is equal at the end, and each alert exists exactly once."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from app.config.rules_file import load_rules
from app.config.settings import KafkaSettings, SourceSettings
from app.config.topics import ALERTS, TRANSACTIONS, TRANSACTIONS_CDC
from app.domain.money import to_minor
from app.domain.records import AlertRecord, TransactionRecord
from app.engine.committed_reader import committed_reader
from app.local.stack.part import BACKENDS, WORKERS
from app.local.stack.stack import Stack
from app.operations.provision.steps import DEFAULT
from app.proof.reconcile import barrier
from tests.support.machine.clients import admin_query
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import eventually
from tests.support.oracle.history import History
from tests.support.oracle.screening import TransactionChange, screen

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECONDS = 20
RATE = 50
TABLES = {"customers", "accounts", "transactions"}
Records = list[tuple[int, int, bytes | None]]
"""Partition, offset and value."""


@dataclass(frozen=True)
class Run:
    """The results of a finished demo."""

    code: int
    summary: dict[str, Any]
    told: str
    """The output for people."""
    meanwhile: dict[str, Any]
    """The report of `bankstream reconcile --json` while transactions were written and a worker was down."""


class Demo:
    """`bankstream demo --json` as a process."""

    def __init__(self, environment: Mapping[str, str], folder: Path, *arguments: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        command = [sys.executable, "-m", "app.cli", "demo", "--no-dashboard", "--json", *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=out, stderr=err)

    def told(self) -> str:
        return self._err.read_text(errors="replace")

    def wait_for(self, text: str, timeout_s: float) -> None:
        eventually(
            lambda: text in self.told() or self.process.poll() is not None, timeout_s=timeout_s, message=f"no {text!r}"
        )
        assert self.process.poll() is None, self.told()

    def end(self, timeout_s: float, meanwhile: dict[str, Any]) -> Run:
        code = self.process.wait(timeout_s)
        lines = self._out.read_text().splitlines()
        assert lines, self.told()
        return Run(code, json.loads(lines[-1]), self.told(), meanwhile)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with private_stack(*BACKENDS, *WORKERS, steps=DEFAULT) as found:
        yield found


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a demo at 50 transactions per second and kills its streams worker between alerts."""
    demo = Demo(
        stack.environment(),
        tmp_path_factory.mktemp("demo"),
        "--seconds",
        str(SECONDS),
        "--rate",
        str(RATE),
        "--seed",
        "7",
    )
    try:
        demo.wait_for("\nrunning\n", 240)
        eventually(lambda: " alert " in demo.told().partition("\nrunning\n")[2], timeout_s=SECONDS)
        stack.kill("streams-1")
        reconcile = subprocess.run(
            [sys.executable, "-m", "app.cli", "reconcile", "--json"],
            env={**os.environ, **stack.environment()}, check=False, capture_output=True, timeout=200,
        )  # fmt: skip
        return demo.end(300, json.loads(reconcile.stdout or b'{"reconciled": null}'))
    finally:
        if demo.process.poll() is None:
            demo.process.kill()


def test_the_demo_succeeds_although_a_worker_was_killed(run: Run) -> None:
    assert run.summary["problems"] == []
    assert run.summary["reconciled"] is True
    assert run.code == 0
    assert run.summary["source_rows"].keys() == TABLES
    assert run.summary["source_rows"] == run.summary["warehouse_rows"]
    assert run.summary["dbt"]["failed"] == run.summary["dbt"]["skipped"] == 0
    assert run.summary["dbt"]["passed"] > 50


def test_the_killed_worker_is_reported_by_name_with_the_end_of_its_log(run: Run) -> None:
    assert run.summary["deaths"] == {"streams-1": 1}
    report = run.told.partition("streams-1 died: terminated by SIGKILL")[2]
    assert "worker streams starts" in report


def test_the_demo_keeps_its_rate_and_measures_the_latency_of_every_change(run: Run) -> None:
    assert run.summary["transactions"] == pytest.approx(SECONDS * RATE, rel=0.1)
    assert run.summary["changes_timed"] >= run.summary["transactions"]
    for name in ("commit_to_alert_ms", "commit_to_warehouse_ms"):
        assert 0 < run.summary[name]["p50"] <= run.summary[name]["p99"]


def test_reconcile_is_exact_while_transactions_are_made_and_a_worker_is_down(run: Run) -> None:
    assert run.meanwhile["reconciled"] is True
    for table, end in run.summary["source_rows"].items():
        assert run.meanwhile["tables"][table]["source_rows"] == run.meanwhile["tables"][table]["warehouse_rows"]
        assert run.meanwhile["tables"][table]["source_rows"] <= end + 50  # a few rows are deleted
    assert run.meanwhile["tables"]["transactions"]["source_rows"] < run.summary["source_rows"]["transactions"]
    assert len(run.meanwhile["position"]["offsets"]) >= len(TABLES)


def test_every_change_of_a_transaction_is_forwarded_once(run: Run, stack: Stack) -> None:
    del run
    derived = Counter((r.source.partition, r.source.offset) for r in transactions(stack))
    captured = {
        (partition, offset)
        for partition, offset, value in topic(stack, TRANSACTIONS_CDC.name)
        if value is not None and msgspec.json.decode(value)["op"] in "cudr"
    }
    assert derived == Counter(captured)


def test_alerts_equal_a_recomputation_and_exist_once(run: Run, stack: Stack) -> None:
    found = alerts(stack)
    assert len({alert.alert_id for alert in found}) == len(found)
    assert run.summary["alerts_twice"] == 0
    rules = load_rules(None)
    histories: dict[int, History] = defaultdict(lambda: History(rules.selections))
    expected = [
        alert
        for record in transactions(stack)
        for alert in screen(histories[record.customer_id], TransactionChange.of(record), rules, now_us=0).alerts
    ]
    assert len(expected) > 0
    assert {(a.alert_id, a.rule, a.customer_id, a.explanation) for a in found} == {
        (a.alert_id, a.rule, a.customer_id, a.explanation) for a in expected
    }


def test_every_large_transaction_has_an_alert(run: Run, stack: Stack) -> None:
    del run
    first: dict[int, TransactionRecord] = {}
    for record in transactions(stack):
        first.setdefault(record.transaction_id, record)
    large = {
        key for key, record in first.items()
        if to_minor(record.amount) >= 1_000_000 and record.status in ("pending", "posted")
    }  # fmt: skip
    assert large <= {alert.transaction_id for alert in alerts(stack) if alert.rule == "threshold"}


def test_lookups_return_the_data_of_the_bank(run: Run, stack: Stack) -> None:
    del run
    environment, session = stack.environment(), requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {environment['BANKSTREAM_LOOKUP_TOKEN']}"
    api = f"{environment['BANKSTREAM_LOOKUP_URL']}/v1"
    found = admin_query(
        settings_of(stack, SourceSettings),
        "SELECT customer_id, name, risk_rating, account_id, balance::text FROM customers JOIN accounts USING (customer_id) "
        "ORDER BY random() LIMIT 20",
    )
    assert len(found) == 20
    for customer_id, name, risk_rating, account_id, balance in found:
        customer = session.get(f"{api}/customers/{customer_id}", timeout=10).json()["attributes"]
        assert (customer["risk_rating"], customer["name"]) == (risk_rating, "***"), "no personal data without the scope"
        assert name not in customer.values()
        account = session.get(f"{api}/accounts/{account_id}", timeout=10).json()["attributes"]
        assert (account["customer_id"], account["balance"]) == (customer_id, balance)
    newest = session.get(f"{api}/alerts?limit=1", timeout=10).json()["alerts"][0]
    assert newest["alert"]["alert_id"] in {alert.alert_id for alert in alerts(stack)}
    assert requests.get(f"{api}/customers/1", timeout=10).status_code == 401


def test_a_second_demo_continues_where_the_first_stopped(run: Run, stack: Stack, tmp_path: Path) -> None:
    again = Demo(stack.environment(), tmp_path, "--seconds", "5", "--rate", str(RATE)).end(300, {})
    assert again.code == 0, again.told
    assert again.summary["source_rows"] == again.summary["warehouse_rows"]
    assert again.summary["source_rows"]["transactions"] > run.summary["source_rows"]["transactions"]
    assert "still runs" in again.told
    assert stack.running()


def transactions(stack: Stack) -> list[TransactionRecord]:
    """The records of bank.transactions, by customer, in Kafka's order."""
    decoder = msgspec.json.Decoder(TransactionRecord)
    return [decoder.decode(value) for _, _, value in topic(stack, TRANSACTIONS.name) if value is not None]


def alerts(stack: Stack) -> list[AlertRecord]:
    decoder = msgspec.json.Decoder(AlertRecord)
    return [decoder.decode(value) for _, _, value in topic(stack, ALERTS.name) if value is not None]


def topic(stack: Stack, name: str) -> Records:
    """All committed records of a topic, by partition."""
    return asyncio.run(_read(settings_of(stack, KafkaSettings), name))


async def _read(kafka: KafkaSettings, name: str) -> Records:
    consumer = committed_reader(kafka)
    await consumer.start()
    try:
        deadline = time.monotonic() + 60
        partitions = await barrier.partitions_of(kafka, [name])
        last = await barrier.last_records(kafka, partitions, deadline)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: dict[int, Records] = {partition.partition: [] for partition in partitions}
        waiting = {partition.partition: offset for partition, offset in last.items() if offset >= 0}
        while waiting:
            assert time.monotonic() < deadline
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                found[partition.partition] += [(r.partition, r.offset, r.value) for r in records]
                if records[-1].offset >= waiting.get(partition.partition, -1):
                    waiting.pop(partition.partition, None)
        return [record for partition in sorted(found) for record in found[partition]]
    finally:
        await consumer.stop()
