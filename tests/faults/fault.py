"""A row of the table of faults: the action on the bank, its count, the proof that it happened, and the invariants afterwards."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from app.engine.exits import FENCED, RETRY
from tests.faults.bank import Bank
from tests.faults.worker_supervisor import KILLED

ORDINARY_EXITS = frozenset({KILLED, 0, FENCED, RETRY})
"""Exit codes allowed for workers during any fault. 70 (a defect) and 73 (a gap in a log) are allowed only by rows that name them."""


class NotFiredError(AssertionError):
    """The fault did not happen, so the run proves nothing."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A fault that happened: the proof, and the Unix time from which recovery is measured. `count`: faults at the same time."""

    proof: str
    at: float
    count: int = 1


@contextmanager
def nothing(_: Bank) -> Iterator[None]:
    """Prepares nothing."""
    yield


def holds_as_ever(_: Bank) -> list[str]:
    """Checks nothing beyond the verification that follows every row."""
    return []


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `fire` injects the fault once, under load, and returns the proof when it is over. Raises NotFiredError without a proof.

    After the last firing the load stops, and the bank is drained and verified: nothing is lost, duplicated or wrong. `check` returns what
    is wrong with the additional conditions of this row. `around` prepares the bank (a proxy, a hook in its workers) and restores it.
    `own_bank`: the row gets a separate bank, because no other row can use the bank afterwards.
    """

    name: str
    number: int
    """Number in the fault matrix."""
    does: str
    holds: str
    fire: Callable[[Bank, random.Random], Firing]
    times: int = 1
    affects: Literal["alerts", "lake", "warehouse", "capture"] = "alerts"
    rate: int = 400
    """Row changes per second while the fault fires."""
    pause_s: tuple[float, float] = (1.0, 3.0)
    """Range of the random pause between two firings. It is a pause and not a condition because the fault should fire at a random time."""
    recovers: bool = True
    """Whether the next firing and the end of the load wait for recovery."""
    exits: frozenset[int] = field(default=ORDINARY_EXITS)
    around: Callable[[Bank], AbstractContextManager[None]] = nothing
    check: Callable[[Bank], list[str]] = holds_as_ever
    weight: int = 0
    """Relative frequency in the random mode; 0: never."""
    own_bank: bool = False
    stops: bool = False
    """The bank must stop. It is not drained, and `fire` must prove that it emitted nothing more."""
