"""Tests Airflow's DAG on the whole stack: a successful run, a run without changes, and a run that raises the alarm."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.config.settings import SnowflakeSettings
from app.local.demo.catch_up import wait_until_caught_up
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import DEFAULT
from sinks.sessions import open_reader
from tests.support.machine.stack import private_stack, settings_of
from tests.support.paths import PROJECT
from tests.support.warehouse.dbt_project import Manifest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1_500),
]  # the environment may have to be created

AIRFLOW = PROJECT / "ops" / "airflow"
INSTALL_S = 900
"""Limit for a new installation over a slow network."""
TASKS = ("freshness", "silver", "snapshots", "gold", "histories", "reconcile")


class Webhook(HTTPServer):
    """Receives alarms. It refuses the first request of each, like an overloaded server."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[dict[str, Any]] = []
        self.refused: set[bytes] = set()


class Receiver(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        first = body not in self.server.refused
        if first:
            self.server.refused.add(body)
        else:
            self.server.received.append(json.loads(body))
        self.send_response(503 if first else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Does nothing: the tests read `received`."""


@dataclass
class Bank:
    """The running bank with its own Airflow."""

    stack: Stack
    webhook: Webhook
    home: Path

    def airflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("BANKSTREAM_", "AIRFLOW__"))}
        settings = {
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "BANKSTREAM_HOME": str(self.home),
            "BANKSTREAM_AIRFLOW_PROGRAMS": str(Path(sys.executable).parent),
            "BANKSTREAM_AIRFLOW_SETTLE_SECONDS": "0",
            "BANKSTREAM_AIRFLOW_RETRIES": "1",
            "BANKSTREAM_AIRFLOW_RETRY_DELAY_S": "1",
            "BANKSTREAM_AIRFLOW_WEBHOOK_URL": f"http://127.0.0.1:{self.webhook.server_port}/secret-token",
        }
        return subprocess.run(
            [AIRFLOW / "airflow", *arguments],
            env=kept | self.stack.environment() | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def run(self, **states: str) -> str:
        """Runs `airflow dags test` and returns its output. Checks that these tasks end in these states, and all others with success."""
        done = self.airflow("dags", "test", "bank_warehouse")
        output = done.stdout + done.stderr
        expected = dict.fromkeys(TASKS, "success") | states
        assert (done.returncode == 0) == (set(expected.values()) == {"success"}), output[-6_000:]
        assert self.states() == expected, output[-6_000:]
        return output

    def states(self) -> dict[str, str]:
        """The tasks of the last run and their states."""
        run = "SELECT run_id FROM dag_run ORDER BY run_after DESC LIMIT 1"
        return dict(self.noted(f"SELECT task_id, state FROM task_instance WHERE run_id = ({run})"))  # noqa: S608 - our own

    def noted(self, statement: str) -> list[tuple[Any, ...]]:
        """Reads Airflow's database, because its command takes many seconds."""
        with closing(sqlite3.connect(self.home / "airflow" / "airflow.db")) as database:
            return database.execute(statement).fetchall()

    def warehouse(self, statement: str) -> list[tuple[Any, ...]]:
        with open_reader(settings_of(self.stack, SnowflakeSettings)) as reader:
            return reader.rows(statement)

    def made(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of all relations that dbt created, not only of gold."""
        manifest = Manifest.read(self.home / "airflow" / "build" / "target")
        return {
            relation: sorted(self.warehouse(f"SELECT * FROM BANK.{relation}"), key=repr)  # noqa: S608 - our own
            for relation in manifest.relations()
        }


@pytest.fixture(scope="module")
def airflow_installed() -> None:
    """Airflow's virtual environment, created if it is missing or differs from its lock."""
    done = subprocess.run([AIRFLOW / "install"], check=False, capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def bank(airflow_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:  # noqa: ARG001 - it has to be there
    """A bank with some seconds of transactions, all of them loaded into the warehouse."""
    with Webhook() as webhook, private_stack(*Part, steps=DEFAULT) as stack:
        threading.Thread(target=webhook.serve_forever, daemon=True).start()
        try:
            made = Bank(stack, webhook, tmp_path_factory.mktemp("airflow"))
            simulate = ["simulate", "--rate", "20", "--seconds", "10", "--customers", "50", "--seed", "1"]
            subprocess.run(
                [sys.executable, "-m", "app.cli", *simulate],
                env=os.environ | stack.environment(), cwd=PROJECT, check=True, timeout=120, capture_output=True,
            )  # fmt: skip
            asyncio.run(wait_until_caught_up(stack.environment(), timeout_s=120, on_progress=lambda _: None))
            migrated = made.airflow("db", "migrate")
            assert migrated.returncode == 0, migrated.stderr[-2_000:]
            yield made
        finally:
            webhook.shutdown()


def test_a_run_builds_and_verifies_gold_and_a_second_run_changes_nothing(bank: Bank) -> None:
    bank.run()
    first = bank.made()
    assert len(first["GOLD.FCT_TRANSACTIONS"]) > 50
    bank.run()
    assert bank.made() == first
    assert bank.webhook.received == []
    news = "SELECT name, count(*) FROM asset_event JOIN asset ON asset.id = asset_id GROUP BY name"
    assert dict(bank.noted(news)) == dict.fromkeys(("bankstream_silver", "bankstream_gold", "bankstream_reconciled"), 2)


def test_a_row_that_landed_twice_stops_the_run_before_gold_and_raises_the_alarm(bank: Bank) -> None:
    bank.warehouse(
        "INSERT INTO BANK.BRONZE.CDC_EVENTS SELECT record FROM BANK.BRONZE.CDC_EVENTS "
        "WHERE record:topic::varchar = 'bank.public.transactions' ORDER BY record:ts::number DESC LIMIT 1"
    )
    before = bank.made()
    later = dict.fromkeys(("snapshots", "gold", "histories", "reconcile"), "upstream_failed")
    output = bank.run(silver="failed", **later)
    [alarm] = bank.webhook.received
    assert (alarm["event"], alarm["dag"], alarm["task"], alarm["try"]) == (
        "bankstream.alarm",
        "bank_warehouse",
        "silver",
        1,
    )
    assert re.search(r"test (unique_together|loaded_completely)_transaction_changes\w*: fail, \d+ rows", alarm["text"])
    assert '"event": "bankstream.alarm"' in output.replace('\\"', '"')
    assert "secret-token" not in output
    assert bank.made() == before
