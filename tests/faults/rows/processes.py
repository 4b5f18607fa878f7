"""Faults of our own processes: killed, stopped, frozen, joining and leaving."""

import random
import time

from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.keeper import KILLED


def kill(bank: Bank, chance: random.Random) -> Firing:
    """kill -9 of any worker."""
    return kill_one(bank, chance.choice(bank.keeper.names()))


def kill_one(bank: Bank, name: str) -> Firing:
    """kill -9 of this worker, proved by its exit code."""
    at = time.time()
    ended = bank.keeper.kill(name)
    if ended.code != KILLED:
        raise NotFiredError(f"{ended}, by itself, before it was killed")
    return Firing(f"{ended.name}: exit code {ended.code}", at)


ROWS = (
    Fault(
        "worker-killed", 1, "kill -9 of a worker of any kind, under load, at a random moment",
        "nothing lost, doubled or wrong; the worker is started again with its local state", kill, times=6, weight=20,
    ),
)  # fmt: skip
