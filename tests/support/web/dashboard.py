"""A warehouse for the dashboard's tests: the local stack's warehouse server alone, with landed records of known totals."""

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from app.config.settings import S3Settings, SnowflakeSettings
from app.operations.provision import warehouse as provisioning
from sinks.sessions import open_reader
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

START_TIMEOUT_S = 150.0


class Warehouse:
    """The server as a process, which `stop` and `start` end and start. `environment` has the variables for its clients."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port, password = directory, free_port(), secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._server = {
            "BANKSTREAM_WAREHOUSE_SERVER_PORT": str(self.port),
            "BANKSTREAM_WAREHOUSE_SERVER_DIRECTORY": str(directory / "data"),
            "BANKSTREAM_WAREHOUSE_SERVER_USER": "bankstream",
            "BANKSTREAM_WAREHOUSE_SERVER_PASSWORD": password,
            "BANKSTREAM_WAREHOUSE_SERVER_MEMORY_MB": "256",
        }
        self.environment = {
            "BANKSTREAM_SNOWFLAKE_HOST": "127.0.0.1",
            "BANKSTREAM_SNOWFLAKE_PORT": str(self.port),
            "BANKSTREAM_SNOWFLAKE_PROTOCOL": "http",
            "BANKSTREAM_SNOWFLAKE_PASSWORD": password,
        }

    @property
    def settings(self) -> SnowflakeSettings:
        """The settings as a program would read them."""
        return settings_of(self.environment, SnowflakeSettings)

    def start(self) -> None:
        """Starts the server and returns when it listens."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.local.stack.warehouse_server"],
                env=os.environ | self._server,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, timeout_s=START_TIMEOUT_S, message="the warehouse server does not answer")

    def stop(self) -> None:
        """Ends the server."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def run(self, statement: str, values: Sequence[object] = ()) -> None:
        """Runs a statement."""
        with open_reader(self.settings) as reader:
            reader.rows(statement, values)

    def land(self, table: str, *records: dict[str, Any]) -> None:
        """Appends rows to a landing table."""
        rows = ", ".join(["(%s)"] * len(records))
        sql = f"INSERT INTO BANK.BRONZE.{table} SELECT parse_json(column1) FROM VALUES {rows}"  # noqa: S608 - our own
        self.run(sql, [json.dumps(record) for record in records])

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the warehouse server has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def warehouse(directory: Path) -> Iterator[Warehouse]:
    """A server with an empty, provisioned database, ended afterwards."""
    made = Warehouse(directory)
    try:
        made.start()
        provisioning.provision(made.settings, settings_of({}, S3Settings), CATALOGUE)
        yield made
    finally:
        made.stop()


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def landed(topic: str, offset: int, at: datetime, value: dict[str, Any], partition: int = 0) -> dict[str, Any]:
    """A line of a lake object."""
    ts = int(at.timestamp() * 1000)
    return {"topic": topic, "partition": partition, "offset": offset, "ts": ts, "key": None, "value": value}


def transaction(offset: int, at: datetime, transaction_id: int, **changes: Any) -> dict[str, Any]:
    """A landed transaction of customer 42, by default a posted debit of 10.00 EUR."""
    value = {
        "op": "created", "transaction_id": transaction_id, "account_id": 420, "customer_id": 42, "type": "debit",
        "amount": "10.00", "currency": "EUR", "status": "posted", "channel": "card", "merchant_id": "M-1", "country_code": "DE",
        "booked_at": iso(at),
    }  # fmt: skip
    return landed("bank.transactions", offset, at, value | changes)


def a_live_bank(tables: Warehouse, now: datetime) -> None:
    """Lands transactions of the last minute: credits 100.10 + 0.20 EUR, debits 10.00 EUR and 7.77 USD, one declined, deleted, old."""
    at = now - timedelta(seconds=45)
    tables.land(
        "TRANSACTIONS",
        transaction(0, at, 1, type="credit", amount="100.10", status="pending"),
        transaction(1, at + timedelta(seconds=1), 1, type="credit", amount="100.10", booked_at=iso(at), op="updated"),
        transaction(2, at, 2, type="credit", amount="0.20"),
        transaction(3, at, 3),
        transaction(4, at, 4, currency="USD", amount="7.77", customer_id=43),
        transaction(5, at, 5, status="declined", amount="5000.00"),
        transaction(6, at, 6),
        transaction(7, at, 6, op="deleted"),
        transaction(8, at - timedelta(hours=5), 7),
    )
    alert = {
        "alert_id": "a1", "rule": "large-amount", "severity": "high", "score": "0.9", "customer_id": 42, "account_id": 420,
        "transaction_id": 1, "event_time": iso(at), "detected_at": iso(at), "features": {"amount": "100.10"},
        "explanation": "100.10 is far above <b>the usual</b>.", "evidence": [],
    }  # fmt: skip
    tables.land("ALERTS", landed("bank.alerts", 0, at, alert), landed("bank.alerts", 1, at, alert))
    day = now - timedelta(days=40)
    key = {"customer_id": 42}
    first = {"customer_id": 42, "name": "Ada Ember", "email": "ada@example.org", "city": "Kiel", "country_code": "DE",
             "risk_rating": "low", "kyc_status": "verified"}  # fmt: skip
    second = first | {"email": "ember@example.net", "city": "Bergen"}
    tables.land(
        "SCD2_CUSTOMERS",
        landed("bank.scd2.customers", 0, day, {
            "op": "open", "version_id": "v1", "key": key, "valid_from": iso(day), "valid_to": None, "attributes": first,
            "changed": [], "reason": "created",
        }),
        landed("bank.scd2.customers", 1, at, {
            "op": "close", "version_id": "v1", "key": key, "valid_from": iso(day), "valid_to": iso(at), "reason": "superseded",
        }),
        landed("bank.scd2.customers", 2, at, {
            "op": "open", "version_id": "v2", "key": key, "valid_from": iso(at), "valid_to": None, "attributes": second,
            "changed": ["city", "email"], "reason": "updated",
        }),
    )  # fmt: skip
    windows = {name: {"count": 2, "sum": "100.30", "declined_count": 1} for name in ("1h", "24h", "30d")}
    velocity = {"customer_id": 42, "event_time": iso(at), "currency": "EUR", "windows": windows}
    tables.land("VELOCITY", landed("bank.velocity", 0, at, velocity))
    letter = {"topic": "bank.public.transactions", "reason": "not_json", "message": "no JSON"}
    tables.land("DEAD_LETTERS", landed("bank.dead-letters", 0, at, letter))
    tables.run(
        "INSERT INTO BANK.BRONZE.LAKE_LEDGER SELECT 'bank.transactions', 'i', 0, 8, 'o', 's', %s::timestamp_ntz",
        [at.replace(tzinfo=None)],
    )


def build_gold(tables: Warehouse, now: datetime) -> None:
    """Creates gold tables with the columns that the dashboard reads, as in dbt's contracts (a test compares the names)."""
    booked = (now - timedelta(days=1)).replace(tzinfo=None)
    tables.run(
        "CREATE TABLE BANK.GOLD.FCT_TRANSACTIONS (moves_money BOOLEAN, type VARCHAR, amount NUMBER(18, 2), currency VARCHAR, "
        "merchant_id VARCHAR, country_code VARCHAR, booked_at TIMESTAMP_NTZ, committed_at TIMESTAMP_NTZ, customer_version_id VARCHAR, "
        "account_version_id VARCHAR)"
    )
    tables.run("CREATE TABLE BANK.GOLD.VOLUME_PER_MINUTE (currency VARCHAR, transaction_count INTEGER)")
    tables.run("CREATE TABLE BANK.GOLD.DIM_CUSTOMER (customer_version_id VARCHAR, risk_rating VARCHAR)")
    tables.run("CREATE TABLE BANK.GOLD.DIM_ACCOUNT (account_version_id VARCHAR, type VARCHAR)")
    tables.run("INSERT INTO BANK.GOLD.VOLUME_PER_MINUTE VALUES ('EUR', 3), ('USD', 1)")
    tables.run("INSERT INTO BANK.GOLD.DIM_CUSTOMER VALUES ('v1', 'low'), ('v2', 'high')")
    tables.run("INSERT INTO BANK.GOLD.DIM_ACCOUNT VALUES ('a1', 'checking')")
    for moves, kind, amount, currency, merchant, version in (
        (True, "credit", Decimal("9999999999999999.99"), "EUR", None, "v1"),
        (True, "debit", Decimal("0.01"), "EUR", "M-1", "v2"),
        (True, "debit", Decimal("0.02"), "EUR", "M-1", "v2"),
        (False, "debit", Decimal("777.00"), "EUR", "M-1", "v2"),
        (True, "debit", Decimal("5.00"), "USD", "M-2", "v2"),
    ):
        tables.run(
            "INSERT INTO BANK.GOLD.FCT_TRANSACTIONS SELECT %s, %s, %s::number(18, 2), %s, %s, 'DE', %s::timestamp_ntz, "
            "%s::timestamp_ntz, %s, 'a1'",
            [moves, kind, amount, currency, merchant, booked, booked, version],
        )


def healthy(port: int) -> bool:
    """Whether Streamlit answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/_stcore/health") as reply:
            return bool(reply.status == 200)
    except URLError:
        return False
