"""The observers that have to ask: the warehouse's ledger, PostgreSQL's commits, the stack's processes. Each in a thread of its own.

What cannot be asked for a while is asked again: the demo kills parts, and its view must outlive them.
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
    """Runs `work(stop)` in a daemon thread until `close`, again and again when it fails."""

    def __init__(self, name: str, work: Callable[[threading.Event], None]) -> None:
        self._stop, self._work = threading.Event(), work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """End it, or leave it to the end of the process if it hangs."""
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
    """Tells where the ledger stands and when (microseconds since the epoch), as often as LEDGER_INTERVAL_S."""

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
    """Tells how many transactions the database has committed since the first answer."""

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
    """Tells the state of every process of the stack."""

    def work(stop: threading.Event) -> None:
        while True:
            tell(stack.status())
            if stop.wait(STATUS_INTERVAL_S):
                return

    return Poller("statuses", work)


def deaths(stack: Stack, tell: Callable[[Died], object]) -> Poller:
    """Tells every end of a process that nobody asked for."""

    def work(stop: threading.Event) -> None:
        for died in stack.watch(stop):
            tell(died)

    return Poller("deaths", work)
