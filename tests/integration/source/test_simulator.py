"""Tests the simulated bank on a real PostgreSQL: equal rows for equal seeds, the rate, exactly-once writes, and a clean end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.config.settings import PostgresSettings, SourceSettings
from app.local.simulator.errors import SimulationError
from app.local.simulator.simulation import Simulation, SimulationOptions
from app.local.simulator.statistics import Statistics
from app.local.stack.environment import ADMIN
from app.local.stack.stack import Stack
from app.operations.provision import source
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import drop_database
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

pytestmark = pytest.mark.integration

KEYS = {
    "elapsed_s", "rate", "customers", "accounts", "transactions", "updates", "deletes", "rollbacks", "frauds", "late_ms",
}  # fmt: skip
CLOCK = {"created_at", "updated_at", "opened_at", "booked_at", "labelled_at"}
TABLES = ("customers", "accounts", "transactions", "fraud_labels")
BALANCES = """
SELECT a.account_id, a.balance - coalesce(sum(CASE t.type WHEN 'credit' THEN t.amount ELSE -t.amount END)
    FILTER (WHERE t.status IN ('pending', 'posted') AND t.transaction_id > %s), 0)
FROM accounts a LEFT JOIN transactions t USING (account_id) GROUP BY a.account_id ORDER BY 1"""
"""The balance of every account before the transactions after this one."""


class BankDatabase:
    """An empty bank for this test only."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self.environment = {**stack.environment(), "BANKSTREAM_POSTGRES_DBNAME": name}
        self.settings = settings_of(self.environment, PostgresSettings)
        self._source = settings_of(self.environment, SourceSettings)
        source.provision(self._source, CATALOGUE)

    def connect(self, *, admin: bool = False) -> psycopg.Connection[Any]:
        user, password = (
            (ADMIN, self._source.admin_password) if admin else (self._source.reader_user, self._source.reader_password)
        )
        assert password is not None
        return psycopg.connect(
            host=self.settings.host,
            port=self.settings.port,
            dbname=self.name,
            user=user,
            password=password.get_secret_value(),
            autocommit=True,
        )

    def query(self, query: str, *values: object, admin: bool = False) -> list[Any]:
        with self.connect(admin=admin) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows without the columns that depend on the clock."""
        found = self.query(f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1")  # noqa: S608 - our own table's name
        return [{name: value for name, value in row.items() if name not in CLOCK} for (row,) in found]

    def simulate(self, wait: Callable[[float], bool] | None = None, **options: Any) -> Statistics:
        """A run in this process."""
        defaults = {"rate": 400.0, "transactions": 400, "seed": 1, "fraud_rate": 0.02, "customers": 80}
        wanted = SimulationOptions(**{**defaults, **options})
        return Simulation(self.settings, wanted, wait or threading.Event().wait, lambda _: None).run()


@contextmanager
def database(stack: Stack) -> Iterator[BankDatabase]:
    bank = BankDatabase(stack, f"bank_{uuid4().hex[:10]}")
    try:
        yield bank
    finally:
        drop_database(settings_of(stack, SourceSettings, dbname=bank.name))


@pytest.fixture
def bank(postgres_stack: Stack) -> Iterator[BankDatabase]:
    with database(postgres_stack) as found:
        yield found


def command(bank: BankDatabase, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", "simulate", "--json", *arguments],
        env={**os.environ, **bank.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_equal_seeds_on_equal_databases_write_equal_rows_also_in_a_second_run(postgres_stack: Stack) -> None:
    with database(postgres_stack) as one, database(postgres_stack) as other:
        for bank in (one, other):
            bank.simulate(seed=5)
            bank.simulate(seed=6)
        for table in TABLES:
            assert one.rows(table) == other.rows(table)
        assert len(one.rows("fraud_labels")) > 10


def test_the_rate_is_held_to_the_transaction(bank: BankDatabase) -> None:
    final = bank.simulate(rate=50, transactions=150)
    assert final.transactions == 150
    assert final.elapsed_s == pytest.approx(3, abs=0.6)
    (most,) = bank.query(  # created_at is the start of the SQL transaction
        "SELECT max(n) FROM (SELECT count(*) AS n FROM transactions WHERE created_at > now() - interval '1 hour' GROUP BY created_at)"
    )
    assert most[0] <= 6, "payments are committed one by one, but for those that belong together"


def test_a_thousand_a_second_are_written(bank: BankDatabase) -> None:
    final = bank.simulate(rate=1_000, transactions=3_000, customers=300)
    assert final.transactions == 3_000
    assert final.elapsed_s < 15
    assert final.updates > 3_000
    assert final.rollbacks > 10


def test_every_balance_equals_the_sum_of_its_transactions(bank: BankDatabase) -> None:
    bank.simulate(transactions=1)
    last = bank.query("SELECT max(transaction_id) FROM transactions")[0][0]
    before = dict(bank.query(BALANCES, last))
    bank.simulate(seed=2, transactions=3_000, rate=600)
    after = dict(bank.query(BALANCES, last))
    kept = before.keys() & after.keys()
    assert len(kept) > 80
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    statuses = {status for (status,) in bank.query("SELECT DISTINCT status FROM transactions")}
    assert statuses == {"pending", "posted", "declined"} | ({"reversed"} & statuses)


def test_repeatedly_cut_connections_lose_and_duplicate_nothing(bank: BankDatabase) -> None:
    bank.simulate(transactions=1)
    last = bank.query("SELECT max(transaction_id) FROM transactions")[0][0]
    before = dict(bank.query(BALANCES, last))
    cuts = 0
    finals: list[Statistics] = []
    thread = threading.Thread(
        target=lambda: finals.append(bank.simulate(seed=3, transactions=2_400, rate=400, fraud_rate=0.05))
    )
    thread.start()
    pause = threading.Event()
    while thread.is_alive():
        pause.wait(0.3)
        cuts += len(
            bank.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = 'bank_app'",
                bank.name,
                admin=True,
            )
        )
    assert cuts > 10
    assert [final.transactions for final in finals] == [2_400]
    after = dict(bank.query(BALANCES, last))
    kept = before.keys() & after.keys()
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    labelled = "SELECT count(*) FROM fraud_labels"
    assert bank.query(labelled)[0][0] > 50


def test_the_command_reports_every_second_and_a_signal_ends_it_cleanly(bank: BankDatabase) -> None:
    process = command(bank, "--rate", "100", "--customers", "50")
    try:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    final = json.loads(rest.splitlines()[-1])
    assert all(line.keys() == KEYS for line in (*lines, final))
    assert lines[1]["elapsed_s"] - lines[0]["elapsed_s"] == pytest.approx(1, abs=0.6)
    committed = bank.query("SELECT count(*) FROM transactions WHERE created_at > now() - interval '1 hour'")[0][0]
    assert final["transactions"] - final["deletes"] <= committed <= final["transactions"]
    eventually(
        lambda: not bank.query("SELECT FROM pg_stat_activity WHERE datname = %s AND usename = 'bank_app'", bank.name),
        timeout_s=10,
    )


def test_ctrl_c_while_it_populates_ends_it_too(bank: BankDatabase) -> None:
    process = command(bank, "--customers", "1000000")
    try:
        eventually(lambda: bank.query("SELECT count(*) FROM customers")[0][0] > 500, timeout_s=30)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["transactions"] == 0
    assert bank.query("SELECT count(*) FROM customers WHERE customer_id NOT IN (SELECT customer_id FROM accounts)") == [
        (0,)
    ]


def test_a_database_that_is_not_set_up_is_named_with_what_to_do(bank: BankDatabase) -> None:
    with bank.connect(admin=True) as admin:
        admin.execute("DROP TABLE transactions, accounts, customers CASCADE")
    with pytest.raises(SimulationError, match="bankstream provision source"):
        bank.simulate()


def test_a_database_that_does_not_answer_is_named(bank: BankDatabase) -> None:
    settings = bank.settings.model_copy(update={"port": 1})
    with pytest.raises(SimulationError, match=r"127\.0\.0\.1:1 "):
        Simulation(settings, SimulationOptions(10, 10, 1, 0, 10), threading.Event().wait, lambda _: None).run()
