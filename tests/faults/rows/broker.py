"""Faults of the broker, of capture and of the source: each is killed, and the broker is also frozen (matrix 7, 8, 21)."""

import random
import time
from collections.abc import Callable
from typing import Final

import psutil

from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError

READY_TIMEOUT_S: Final = 180.0


def killed(part: str) -> Callable[[Bank, random.Random], Firing]:
    """kill -9 of a part of the stack, which its supervisor restarts. Proof: its new process id."""

    def fire(bank: Bank, _: random.Random) -> Firing:
        before = bank.part_pid(part)
        at = time.time()
        bank.stack.kill(part)
        psutil.wait_procs([psutil.Process(before)] if psutil.pid_exists(before) else [], timeout=10)
        bank.stack.wait_ready(part, timeout_s=READY_TIMEOUT_S)
        after = bank.part_pid(part)
        if after == before:
            raise NotFiredError(f"{part} is still process {before}")
        return Firing(f"{part}: process {before} is gone, {after} took its place after {time.time() - at:.1f} s", at)

    return fire


def frozen(part: str, seconds: float) -> Callable[[Bank, random.Random], Firing]:
    """SIGSTOP for `seconds`. Proof: the process state at the end. Recovery is measured from SIGCONT."""

    def fire(bank: Bank, _: random.Random) -> Firing:
        process = psutil.Process(bank.part_pid(part))
        process.suspend()
        try:
            time.sleep(seconds)
            status = process.status()
        finally:
            process.resume()
        if status != psutil.STATUS_STOPPED:
            raise NotFiredError(f"{part} was {status} instead of stopped")
        return Firing(f"{part}: process state {status} for {seconds:.0f} s", time.time())

    return fire


HOLDS: Final = "nothing is lost, duplicated or wrong"
ROWS = (
    Fault("kafka-killed", 7, "kill -9 of the broker", HOLDS, killed("kafka"), times=2, weight=1),
    Fault("kafka-frozen-20s", 8, "SIGSTOP of the broker for 20 s", HOLDS, frozen("kafka", 20)),
    Fault(
        "kafka-frozen-60s", 8, "SIGSTOP of the broker for 60 s, longer than the session and transaction timeouts",
        HOLDS, frozen("kafka", 60),
    ),
    Fault("connect-killed", 21, "kill -9 of Kafka Connect", HOLDS, killed("connect"), times=2, weight=1, affects="capture"),
    Fault("postgres-killed", 21, "kill -9 of PostgreSQL", HOLDS, killed("postgres"), times=2, weight=1, affects="capture"),
)  # fmt: skip
