"""Faults of the worker processes: killed, stopped, frozen, joining, leaving, and with a wrong clock (matrix 1, 3, 4, 5, 6, 16)."""

import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psutil

from app.engine.exits import FENCED
from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.worker_supervisor import KILLED, tail
from tests.support.machine.waiting import eventually

ATTEMPTS: Final = 5
"""Attempts to kill a worker. If it exits by itself before the kill, because of the previous fault, its next process is killed."""
DRAIN_S: Final = 30.0
"""Limit for the exit of a worker after SIGTERM."""
TAKEOVER_S: Final = 120.0
OPEN: Final = re.compile(r'^bankstream_open_partitions\{member="by-account"\} (\d+)', re.MULTILINE)
LINE_TIME: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ", re.MULTILINE)
HALF_AN_HOUR_S: Final = 1_800.0


def kill(bank: Bank, chance: random.Random) -> Firing:
    """kill -9 of a random worker of any kind."""
    return kill_one(bank, chance.choice(bank.workers.names()))


def kill_streams(bank: Bank, chance: random.Random) -> Firing:
    """kill -9 of a random streams worker."""
    return kill_one(bank, chance.choice(bank.workers.names("streams")))


def kill_one(bank: Bank, name: str) -> Firing:
    """kill -9 of this worker. Proof: its exit code."""
    for _ in range(ATTEMPTS):
        bank.workers.alive(name)
        at = time.time()
        ended = bank.workers.kill(name)
        if ended.code == KILLED:
            return Firing(f"{ended.name}: exit code {ended.code}", at)
    raise NotFiredError(f"{ended}, by itself, before it was killed, {ATTEMPTS} times in a row")


def stop(bank: Bank, chance: random.Random) -> Firing:
    """SIGTERM under load, then a restart. Proof: exit code 0."""
    name = chance.choice(bank.workers.names())
    bank.workers.ready(name)
    at, began = time.time(), time.monotonic()
    ended = bank.workers.restart(name)
    seconds = time.monotonic() - began
    if ended.code != 0:
        raise NotFiredError(f"{ended} instead of draining:\n{tail(ended.log)}")
    assert seconds < DRAIN_S, f"{name} took {seconds:.1f} s to stop"
    return Firing(f"{name}: exit code 0 after {seconds:.1f} s", at)


def zombie(bank: Bank, chance: random.Random) -> Firing:
    """SIGSTOP until other workers own its partitions, then SIGCONT. The worker continues as if it still owned them."""
    name = chance.choice(bank.workers.names("streams"))
    bank.workers.ready()
    at = time.time()
    process = psutil.Process(bank.workers.freeze(name))
    status = process.status()
    try:
        eventually(
            lambda: _open_elsewhere(bank, name) == bank.kafka.partitions,
            timeout_s=TAKEOVER_S,
            message=f"nobody takes over the partitions of the frozen {name}",
        )
    finally:
        process.resume()
    ends = len(bank.workers.exits())
    eventually(
        lambda: any(end.pid == process.pid for end in bank.workers.exits()) or _open_here(bank, name) is not None,
        timeout_s=TAKEOVER_S,
        message=f"{name} neither ends nor answers after it was woken",
    )
    code = next((end.code for end in bank.workers.exits(max(0, ends - 3)) if end.pid == process.pid), None)
    what = "still there, without partitions" if code is None else f"exit code {code}"
    if code == FENCED:
        what += " (fenced)"
    return Firing(f"{name}: process state {status}, partitions taken over, woken, {what}", at)


def _open_here(bank: Bank, name: str) -> int | None:
    found = OPEN.search(bank.workers.metrics(name))
    return None if found is None else int(found[1])


def _open_elsewhere(bank: Bank, name: str) -> int:
    return sum(_open_here(bank, other) or 0 for other in bank.workers.names("streams") if other != name)


def come_and_go(bank: Bank, _: random.Random) -> Firing:
    """Adds streams workers until each has one partition, then stops the added ones."""
    guests = [f"streams-guest-{n}" for n in range(1, 1 + bank.kafka.partitions - len(bank.workers.names("streams")))]
    at = time.time()
    for name in guests:
        bank.workers.add(name, "streams")
    eventually(
        lambda: all((_open_here(bank, name) or 0) > 0 for name in guests),
        timeout_s=TAKEOVER_S,
        message=f"not every guest gets a partition: {[(name, _open_here(bank, name)) for name in bank.workers.names('streams')]}",
    )
    bank.workers.ready(*guests)
    codes = [bank.workers.stop(name).code for name in guests]
    if any(codes):
        raise NotFiredError(f"{', '.join(guests)} left with {codes}:\n{tail(bank.workers.log(guests[0]))}")
    return Firing(f"{', '.join(guests)}: had partitions, left with exit code 0", at)


def burst(bank: Bank, _: random.Random) -> Firing:
    """kill -9 of all workers at once."""
    names = bank.workers.names()
    for name in names:
        bank.workers.alive(name)
    at = time.time()
    with ThreadPoolExecutor(len(names)) as pool:
        ended = list(pool.map(bank.workers.kill, names))
    killed = sum(end.code == KILLED for end in ended)
    if killed < len(ended) - 1:
        raise NotFiredError(f"only {killed} of {len(ended)} were killed: {', '.join(map(str, ended))}")
    return Firing(f"{killed} of {len(ended)} workers: exit code {KILLED}", at, count=killed)


@contextmanager
def own_clock(bank: Bank) -> Iterator[None]:
    """Restarts streams-1 with the correct clock at the end."""
    try:
        yield
    finally:
        bank.workers.worker("streams-1").hooks = ()
        bank.workers.restart("streams-1")
        bank.workers.ready("streams-1")


def shifted(hook: str, least_s: float) -> Callable[[Bank, random.Random], Firing]:
    """Restarts streams-1 with a shifted clock. Proof: the times in its log."""

    def fire(bank: Bank, _: random.Random) -> Firing:
        bank.workers.worker("streams-1").hooks = (f"tests.faults.clocks:{hook}",)
        at = time.time()
        bank.workers.restart("streams-1")
        bank.workers.ready("streams-1")
        newest = LINE_TIME.findall(bank.workers.log("streams-1").read_text(errors="replace"))[-1]
        shift = datetime.fromisoformat(newest).astimezone().timestamp() - time.time()
        if abs(shift - least_s) > HALF_AN_HOUR_S:
            raise NotFiredError(f"the clock of streams-1 differs by {shift:.0f} s only")
        return Firing(f"streams-1: its log is {shift:+.0f} s off", at)

    return fire


HOLDS: Final = "nothing is lost, duplicated or wrong"
ROWS = (
    Fault(
        "worker-killed", 1, "kill -9 of a worker of any kind, under load, at a random moment",
        f"{HOLDS}; the worker restarts with its local state", kill, times=6, weight=10,
    ),
    Fault(
        "streams-killed", 1, "kill -9 of a streams worker, repeated before the bank has recovered from the previous one",
        HOLDS, kill_streams, times=8, pause_s=(0.2, 2.0), recovers=False, weight=30,
    ),
    Fault(
        "worker-stopped", 3, "SIGTERM of a worker of any kind, under load",
        f"{HOLDS}; the worker drains and exits with 0 within {DRAIN_S:.0f} s", stop, times=4, weight=3,
    ),
    Fault(
        "worker-frozen", 4, "SIGSTOP of a streams worker until other workers own its partitions, then SIGCONT",
        f"{HOLDS}; the zombie is fenced", zombie, times=2, weight=1,
    ),
    Fault(
        "worker-joins-and-leaves", 5, "streams workers join until each has one partition, then the new ones leave",
        f"{HOLDS}; partitions move twice", come_and_go, times=2, weight=2,
    ),
    Fault(
        "all-killed", 6, "kill -9 of all workers of all kinds at the same moment",
        HOLDS, burst, times=3, weight=2,
    ),
    Fault(
        "clock-ahead", 16, "a streams worker whose clock is an hour ahead",
        f"{HOLDS}, except `detected_at` of its alerts", shifted("ahead", 3_600.0), around=own_clock,
    ),
    Fault(
        "clock-behind", 16, "a streams worker whose clock is an hour behind",
        f"{HOLDS}, except `detected_at` of its alerts", shifted("behind", -3_600.0), around=own_clock,
    ),
)  # fmt: skip
