"""Polls the warehouse's ledger, PostgreSQL's commit count and the stack's processes, each in its own thread.

A failed poll is repeated, because the demo must survive the exit of any part.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import psycopg

from app.config.settings import SnowflakeSettings, SourceSettings
from app.errors import BankstreamError
from app.local.stack.events import Died
from app.local.stack.stack import ProcessStatus, Stack
from app.postgres import as_reader
from sinks.sessions import open_reader

LEDGER_INTERVAL_S: Final = 0.1
COMMITS_INTERVAL_S: Final = 1.0
STATUS_INTERVAL_S: Final = 5.0
RETRY_S: Final = 1.0

TopicPartitionKey = tuple[str, int]


class Poller:
    """Runs `work(stop)` in a daemon thread until `close`, and repeats it after an error."""

    def __init__(self, name: str, work: Callable[[threading.Event], None]) -> None:
        self._stop, self._work = threading.Event(), work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the thread. A thread that is still blocked after `timeout_s` stays until the process exits."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(BankstreamError, psycopg.Error, OSError):
                self._work(self._stop)
            self._stop.wait(RETRY_S)


def ledger(
    settings: SnowflakeSettings,
    topic_ids: Mapping[str, str],
    tell: Callable[[Mapping[TopicPartitionKey, int], int], object],
) -> Poller:
    """Calls `tell` every LEDGER_INTERVAL_S with the ledger's positions and the time of the read, in microseconds since the epoch."""

    def work(stop: threading.Event) -> None:
        with open_reader(settings) as reader:
            while not stop.wait(LEDGER_INTERVAL_S):
                rows = reader.ledger()
                now_us = time.time_ns() // 1_000
                found = {
                    (chain.topic, chain.partition): row.last_offset
                    for chain, row in rows.items()
                    if topic_ids.get(chain.topic) == chain.topic_id
                }
                tell(found, now_us)

    return Poller("ledger", work)


def commits(settings: SourceSettings, tell: Callable[[int], object]) -> Poller:
    """Calls `tell` every COMMITS_INTERVAL_S with the database's count of committed transactions."""

    def work(stop: threading.Event) -> None:
        with as_reader(settings, autocommit=True, connect_timeout=5, application_name="bankstream demo") as connection:
            while not stop.wait(COMMITS_INTERVAL_S):
                row = connection.execute(
                    "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
                ).fetchone()
                if row is not None:
                    tell(int(row[0]))

    return Poller("commits", work)


def statuses(stack: Stack, tell: Callable[[tuple[ProcessStatus, ...]], object]) -> Poller:
    """Calls `tell` every STATUS_INTERVAL_S with the status of every process of the stack."""

    def work(stop: threading.Event) -> None:
        while True:
            tell(stack.status())
            if stop.wait(STATUS_INTERVAL_S):
                return

    return Poller("statuses", work)


def deaths(stack: Stack, tell: Callable[[Died], object]) -> Poller:
    """Calls `tell` for every unexpected exit of a process."""

    def work(stop: threading.Event) -> None:
        for died in stack.watch(stop):
            tell(died)

    return Poller("deaths", work)
