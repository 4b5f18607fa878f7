"""Runs the simulated bank: plans works, keeps the rate, and passes the works to the connections.

The rate is kept by deadlines, not by pauses: transaction n is due n / rate seconds after the start, however long the others took. If
PostgreSQL is slow, the run falls behind, reports by how much (`late_ms`), and catches up.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import psycopg

from app.config.settings import PostgresSettings
from app.errors import one_line
from app.local.simulator.bank_state import SHARDS, BankState
from app.local.simulator.errors import SimulationError
from app.local.simulator.ids import SequenceIds
from app.local.simulator.planner import Planner
from app.local.simulator.population import grow, load
from app.local.simulator.statements import Work
from app.local.simulator.statistics import Statistics, StatisticsCounter
from app.local.simulator.work_queue import WorkQueue
from app.local.simulator.writer import Writer, connect

COMMITS_PER_S: Final = 50
"""Commits per second of one connection. A higher rate puts several works into one SQL transaction."""
REPORT_S: Final = 1.0
SLICE_S: Final = 0.05

Wait = Callable[[float], bool]
"""Waits for this many seconds or until the run should stop. Returns whether it should stop."""


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """The options of a run. With `transactions` None it runs until stopped. `rate` is per second, `fraud_rate` per transaction."""

    rate: float
    transactions: int | None
    seed: int
    fraud_rate: float
    customers: int

    @property
    def works_per_commit(self) -> int:
        """The largest number of works in one SQL transaction: 1 at up to 200 transactions a second."""
        return max(1, math.ceil(self.rate / (COMMITS_PER_S * SHARDS)))


class Simulation:
    """One run; an object is used once. Raises SimulationError if the database is unavailable or has not the bank's schema."""

    def __init__(
        self, settings: PostgresSettings, options: SimulationOptions, wait: Wait, report: Callable[[Statistics], None]
    ) -> None:
        """`report` is called in the caller's thread about once a second."""
        self._settings, self._options, self._report = settings, options, report
        self._ask, self._asked = wait, False
        self._tally = StatisticsCounter()
        self._lines = [WorkQueue() for _ in range(SHARDS)]
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []
        self._bank = BankState()
        self._start = self._reported = 0.0

    def run(self) -> Statistics:
        """Executes the run and returns its statistics. If `wait` returns True, it stops after the current SQL transactions."""
        try:
            with closing(SequenceIds(lambda: connect(self._settings))) as ids:
                random = Random(self._options.seed)  # noqa: S311 - a simulation has to be repeatable
                with connect(self._settings) as connection:
                    connection.autocommit = True
                    self._bank = load(connection)
                    grow(connection, random, self._bank, ids, self._options.customers, lambda: self._wait(0))
                planner = Planner(random, self._bank, ids, rate=self._options.rate, fraud_rate=self._options.fraud_rate)
                return self._run(planner)
        except psycopg.errors.UndefinedTable as error:
            raise SimulationError(
                f"database {self._settings.dbname} has not the bank's schema: {error.diag.message_primary}. "
                "Run `bankstream provision source`."
            ) from None
        except psycopg.OperationalError as error:
            raise SimulationError(
                f"cannot use PostgreSQL at {self._settings.host}:{self._settings.port} as {self._settings.user}: {one_line(error)}. "
                "Check that it runs, and check BANKSTREAM_POSTGRES_*."
            ) from None

    def _run(self, planner: Planner) -> Statistics:
        self._start = self._reported = time.monotonic()
        threads = [
            threading.Thread(target=self._work, args=(line,), name=f"bank-{shard}", daemon=True)
            for shard, line in enumerate(self._lines)
        ]
        for thread in threads:
            thread.start()
        stopped = True
        try:
            stopped = self._pace(planner)
        finally:
            self._finish(threads, drop=stopped)
        if self._failures:
            raise self._failures[0]
        return self._tally.report(time.monotonic() - self._start, len(self._bank), len(self._bank.accounts), final=True)

    def _wait(self, seconds: float) -> bool:
        """Returns whether the run should stop. Once it is True, it stays True."""
        self._asked = self._asked or self._ask(seconds)
        return self._asked

    def _pace(self, planner: Planner) -> bool:
        """Pass the works to the connections when they are due. Returns whether the run was stopped before its end."""
        total, rate, planned = self._options.transactions, self._options.rate, 0
        while total is None or planned < total:
            deadline = self._start + planned / rate
            if self._sleep_until(deadline):
                return True
            for work in planner.plan(total - planned if total is not None else 1_000_000):
                if not self._hand_out(replace(work, deadline=deadline)):
                    return True
                planned += work.inserted
        return self._sleep_until(self._start + planned / rate)

    def _sleep_until(self, deadline: float) -> bool:
        """Sleep until the deadline and report on time. Returns whether to stop, which it also checks after the deadline."""
        while True:
            now = time.monotonic()
            if now >= self._reported + REPORT_S:
                self._reported = now
                self._report(self._tally.report(now - self._start, len(self._bank), len(self._bank.accounts)))
            if self._failures or self._wait(max(0.0, min(deadline, self._reported + REPORT_S) - now)):
                return True
            if time.monotonic() >= deadline:
                return False

    def _hand_out(self, work: Work) -> bool:
        """Put the work into its connection's queue. Returns False if the run ends before the queue has room."""
        while not self._lines[work.shard].put(work, SLICE_S):
            if self._failures or self._wait(0):
                return False
        return True

    def _finish(self, threads: Iterable[threading.Thread], *, drop: bool) -> None:
        """Wait until all works are done; if the run is stopped, only until the current SQL transactions are done."""
        self._close(drop=drop)
        for thread in threads:
            while thread.is_alive():
                thread.join(SLICE_S)
                if not drop and (self._failures or self._wait(0)):
                    drop = True
                    self._close(drop=True)

    def _close(self, *, drop: bool) -> None:
        if drop:
            self._stopping.set()
        for line in self._lines:
            line.close(drop=drop)

    def _work(self, line: WorkQueue) -> None:
        """The body of one connection's thread."""
        writer = Writer(self._settings, self._stopping.is_set)
        try:
            while works := line.take(self._options.works_per_commit):
                counts, rolled_back = writer.execute(works)
                self._tally.add(
                    counts,
                    rollbacks=rolled_back,
                    frauds=sum(work.frauds for work in works),
                    late_s=time.monotonic() - works[0].deadline,
                )
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._failures.append(error)
        finally:
            writer.close()
