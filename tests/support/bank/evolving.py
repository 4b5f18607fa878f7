"""A bank with declared tables that the code does not know: a stack, and workers with the declarations."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config.settings import KafkaSettings
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import SOURCE
from tests.support.bank.capture_cdc import owner
from tests.support.bank.cdc_reader import CdcRecord, read_cdc
from tests.support.machine.stack import private_stack, settings_of
from tests.support.paths import PROJECT
from tests.support.streams.workers import Workers

CARDS = """
CREATE TABLE cards (
    branch text, number bigint, card_limit numeric(12, 2), hits int NOT NULL DEFAULT 0, notes text, PRIMARY KEY (branch, number)
);
INSERT INTO cards (branch, number, card_limit) VALUES ('Zürich', 1, 10), ('Zürich', 2, 20), ('Bern', 1, 30), ('Bern', 2, 40);
INSERT INTO customers (name, city, phone, country_code)
    VALUES ('Ada', 'London', '1', 'GB'), ('Bo', 'Oslo', '2', 'NO'), ('Cy', 'Rome', '3', 'IT')
"""
DECLARED = """
[cards]
key = { branch = "text", number = "integer" }
untracked = ["hits"]
"""
Enough = Callable[[list[dict[str, Any]]], bool]


@dataclass
class Bank:
    """A stack with declared tables and its workers."""

    stack: Stack
    workers: Workers
    tables_file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**self.stack.environment(), "BANKSTREAM_TABLES_FILE": str(self.tables_file)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command with the stack's settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BANKSTREAM_")}
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments], cwd=PROJECT, env={**kept, **self.environment},
            capture_output=True, text=True, check=False, timeout=150,
        )  # fmt: skip

    def bankstream(self, *arguments: str) -> str:
        """Runs a `bankstream` command that must succeed, and returns its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def execute(self, *statements: str) -> None:
        """Runs statements as the owner of the tables, each in a transaction."""
        with owner(self.stack) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def read(self, topics: tuple[str, ...], enough: Callable[[list[CdcRecord]], bool]) -> list[CdcRecord]:
        """Waits until there are enough committed records, and returns them. Fails if a worker exits meanwhile."""
        found = asyncio.run(read_cdc(settings_of(self.stack, KafkaSettings), topics, enough, timeout_s=120))
        self.workers.check()
        return found

    def versions(self, table: str, enough: Enough) -> list[dict[str, Any]]:
        """The SCD2 records of a table."""
        return [
            record.value for record in self.read((f"bank.scd2.{table}",), lambda all_: enough([r.value for r in all_]))
        ]


@contextmanager
def declared_bank(
    home: Path, declared: str, *statements: str, parts: Iterable[Part], kinds: tuple[str, ...], steps: tuple[str, ...]
) -> Iterator[Bank]:
    """A bank whose tables these statements create and fill before the connector starts, with one worker of each kind."""
    tables_file = home / "captured.toml"
    tables_file.write_text((PROJECT / "app/captured.toml").read_text(encoding="utf-8") + declared, encoding="utf-8")
    with private_stack(*parts, steps=(SOURCE,)) as stack, Workers(stack.environment(), home) as workers:
        running = Bank(stack, workers, tables_file)
        running.execute(*statements)
        for step in steps:
            running.bankstream("provision", step)
        for kind in kinds:
            workers.start(kind, BANKSTREAM_TABLES_FILE=str(tables_file), BANKSTREAM_ENGINE_PUNCTUATE_INTERVAL_MS="200")
        yield running
        assert workers.started == len(kinds), "one worker of each kind lived through everything"


@contextmanager
def evolving_bank(home: Path) -> Iterator[Bank]:
    """A bank with some rows from before the start of the connector, and only a streams worker."""
    with declared_bank(
        home, DECLARED, *CARDS.split(";"), parts=(Part.POSTGRES, Part.KAFKA, Part.CONNECT), kinds=("streams",),
        steps=("source", "topics", "connector"),
    ) as running:  # fmt: skip
        running.versions("cards", lambda found: len(found) >= 4)
        running.versions("customers", lambda found: len(found) >= 3)
        yield running
