"""Counts the simulated bank's work and reports it once a second and at the end."""

import threading
from collections import Counter
from dataclasses import dataclass

from app.local.simulator.statements import Counted


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of this run, except `customers` and `accounts`, which are the numbers that exist now."""

    elapsed_s: float
    rate: float
    """Transactions inserted per second of the run."""
    customers: int
    accounts: int
    transactions: int
    updates: int
    deletes: int
    rollbacks: int
    frauds: int
    """Frauds that have begun."""
    late_ms: int
    """The longest delay of a commit after its deadline: since the previous report; in the final report, of the whole run."""


class StatisticsCounter:
    """The counts of all writers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Counted] = Counter()
        self._rollbacks = self._frauds = 0
        self._late_s = self._worst_s = 0.0

    def add(self, counts: Counter[Counted], *, rollbacks: int, frauds: int, late_s: float) -> None:
        """Add the counts of one finished SQL transaction."""
        with self._lock:
            self._counts.update(counts)
            self._rollbacks += rollbacks
            self._frauds += frauds
            self._late_s = max(self._late_s, late_s)
            self._worst_s = max(self._worst_s, late_s)

    def report(self, elapsed_s: float, customers: int, accounts: int, *, final: bool = False) -> Statistics:
        """Returns the current statistics and begins a new interval for `late_ms`."""
        with self._lock:
            late_s, self._late_s = (self._worst_s if final else self._late_s), 0.0
            inserted = self._counts[Counted.TRANSACTIONS]
            return Statistics(
                elapsed_s=round(elapsed_s, 3),
                rate=round(inserted / elapsed_s, 2) if elapsed_s > 0 else 0.0,
                customers=customers,
                accounts=accounts,
                transactions=inserted,
                updates=self._counts[Counted.UPDATES],
                deletes=self._counts[Counted.DELETES],
                rollbacks=self._rollbacks,
                frauds=self._frauds,
                late_ms=round(late_s * 1000),
            )
