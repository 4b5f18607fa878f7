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
"""How workers may end while things fail around them. Not by a defect (70) or a gap in a log (73): a row that expects those says so."""


class NotFiredError(AssertionError):
    """The fault did not happen, so that the run proves nothing."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A fault that happened: the proof, and the moment (Unix time) from which recovery is counted. `count`: how many at once."""

    proof: str
    at: float
    count: int = 1


@contextmanager
def nothing(_: Bank) -> Iterator[None]:
    """No preparation."""
    yield


def holds_as_ever(_: Bank) -> list[str]:
    """Nothing beyond what is verified after every row."""
    return []


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `fire` does it once, under load, and answers when it is over, with the proof; NotFiredError if it cannot prove it.

    After the last firing the load stops, the bank is drained and verified: nothing lost, nothing doubled, no state wrong. `check` adds
    what this row wants beyond that and answers what is wrong. `around` prepares the bank (a proxy, a hook in its workers) and puts it
    back. `own_bank`: the row leaves a bank behind that no other row should have.
    """

    name: str
    number: int
    """In the fault matrix."""
    does: str
    holds: str
    fire: Callable[[Bank, random.Random], Firing]
    times: int = 1
    affects: Literal["alerts", "lake", "warehouse", "capture"] = "alerts"
    rate: int = 400
    """Row changes a second while it fires."""
    pause_s: tuple[float, float] = (1.0, 3.0)
    """Between two firings, at random: the moment is the point, there is no condition to wait for."""
    recovers: bool = True
    """Whether the next firing, and the end of the load, wait until the bank has recovered from this one."""
    exits: frozenset[int] = field(default=ORDINARY_EXITS)
    around: Callable[[Bank], AbstractContextManager[None]] = nothing
    check: Callable[[Bank], list[str]] = holds_as_ever
    weight: int = 0
    """How often the random mode draws it, against the others; 0: never."""
    own_bank: bool = False
    stops: bool = False
    """The bank must stop, not go on: there is nothing to drain, and that nothing came out any more is `fire`'s to prove."""
