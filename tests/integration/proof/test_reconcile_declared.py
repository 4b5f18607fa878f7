"""Tests `bankstream reconcile` on declared tables with keys of every supported type, with real Debezium, lake and loader."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import SOURCE
from tests.support.bank.capture_cdc import owner
from tests.support.machine.stack import private_stack
from tests.support.paths import PROJECT
from tests.support.streams.workers import Workers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TABLES = """
CREATE DOMAIN number AS bigint;
CREATE DOMAIN card_number AS number;
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN card_limit AS price;
CREATE TABLE cards (number card_number, branch text, card_limit card_limit, PRIMARY KEY (branch, number));
CREATE TABLE loans (loan_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), principal numeric(18, 2) NOT NULL, due date);
CREATE TABLE fees (
    factor numeric(12, 8), valid_on date, changed_at timestamptz, local_at timestamp, code char(6), name varchar(20), any_number numeric,
    PRIMARY KEY (factor, valid_on, changed_at, local_at, code, any_number)
)
"""
DECLARED = """
[cards]
key = { branch = "text", number = "integer" }

[loans]
key = { loan_id = "text" }
versions = false

[fees]
key = { valid_on = "text", factor = "text", changed_at = "text", local_at = "text", code = "text", any_number = "text" }
"""
BEFORE_CAPTURE = """
INSERT INTO customers (name, country_code) VALUES ('Ada', 'GB');
INSERT INTO cards SELECT number, branch, 10.5
    FROM unnest(ARRAY['a', 'B', 'Ä', 'ä', 'a b', 'a-b', '', '🏦', '\uff5e', 'a''b"c%s\\']) AS branch, unnest(ARRAY[10, 9, -1]) AS number;
INSERT INTO loans (principal) SELECT number FROM generate_series(1, 20) AS number
"""
WHILE_CAPTURED = """
INSERT INTO fees
    SELECT factor, day, at, at AT TIME ZONE 'UTC', code, 'x', any_number
    FROM unnest(ARRAY[10, 9.5, -1.25, 0.00000010, 0]) AS factor,
        unnest(ARRAY['1815-12-10', '0999-01-01', '2026-03-02']::date[]) AS day,
        unnest(ARRAY['2026-03-02 09:00:07+00', '2026-03-02 09:00:07.5+00', '2026-03-02 09:00:00+00']::timestamptz[]) AS at,
        unnest(ARRAY['A', 'A B', 'a']) AS code,
        unnest(ARRAY[1000, 0.0000001, -3.10]) AS any_number;
DELETE FROM fees WHERE factor = 9.5 AND code = 'A B';
UPDATE cards SET card_limit = 11 WHERE number = 9;
UPDATE cards SET branch = 'moved' WHERE branch = 'B';
DELETE FROM cards WHERE branch = 'ä';
UPDATE loans SET due = '2030-01-01' WHERE principal > 10;
TRUNCATE loans;
INSERT INTO loans (principal) VALUES (7.25)
"""


@dataclass
class Bank:
    """A stack with declared tables, and the workers that load them into the warehouse."""

    stack: Stack
    tables_file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**self.stack.environment(), "BANKSTREAM_TABLES_FILE": str(self.tables_file)}

    def bankstream(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command with the stack's settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BANKSTREAM_")}
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments], cwd=PROJECT, env={**kept, **self.environment},
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    def execute(self, statements: str) -> None:
        """Runs statements as the owner of the tables, each in a transaction."""
        with owner(self.stack) as connection:
            for statement in statements.split(";"):
                connection.execute(statement.encode())

    def reconcile(self, code: int) -> dict[str, Any]:
        """The report of the command, which must end with this exit code."""
        done = self.bankstream("reconcile", "--json")
        assert done.returncode == code, done.stderr + done.stdout
        report: dict[str, Any] = json.loads(done.stdout)
        return report


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    home = tmp_path_factory.mktemp("declared")
    tables_file = home / "captured.toml"
    tables_file.write_text((PROJECT / "app/captured.toml").read_text(encoding="utf-8") + DECLARED, encoding="utf-8")
    parts = (Part.POSTGRES, Part.KAFKA, Part.CONNECT, Part.S3, Part.WAREHOUSE)
    with private_stack(*parts, steps=(SOURCE,)) as stack, Workers(stack.environment(), home) as workers:
        running = Bank(stack, tables_file)
        running.execute(TABLES)
        running.execute(BEFORE_CAPTURE)
        done = running.bankstream("provision", "all")
        assert done.returncode == 0, done.stderr
        for kind in ("lake", "warehouse"):
            workers.start(kind, BANKSTREAM_TABLES_FILE=str(tables_file))
        running.execute(WHILE_CAPTURED)
        yield running
        workers.check()


def test_every_declared_table_is_found_equal(bank: Bank) -> None:
    report = bank.reconcile(0)
    assert list(report["tables"]) == ["customers", "accounts", "transactions", "cards", "loans", "fees"]
    rows = {name: (table["source_rows"], table["warehouse_rows"]) for name, table in report["tables"].items()}
    assert rows == {
        "customers": (1, 1), "accounts": (0, 0), "transactions": (0, 0), "cards": (27, 27), "loans": (1, 1),
        "fees": (378, 378),
    }  # fmt: skip
    assert report["tables"]["loans"]["sums"] == {"principal": {"source": "7.25", "warehouse": "7.25"}}
    assert report["tables"]["fees"]["sums"] == {}
    assert [*report["tables"]["cards"]["sums"]] == ["card_limit"], "a domain of a domain counts as its base type"
    assert {place.rpartition("/")[0] for place in report["position"]["offsets"]} == {
        f"bank.public.{name}" for name in report["tables"]
    }


def test_a_table_that_the_source_lost_is_an_error_that_says_what_to_do(bank: Bank) -> None:
    bank.execute("ALTER TABLE loans RENAME TO old_loans")
    done = bank.bankstream("reconcile", "--json")
    bank.execute("ALTER TABLE old_loans RENAME TO loans")
    assert done.returncode == 1
    assert done.stdout == ""
    told = " ".join(done.stderr.split())
    assert f"PostgreSQL has no table public.loans, which {bank.tables_file} declares as [loans]" in told
    assert "remove it from the file that BANKSTREAM_TABLES_FILE names" in told
