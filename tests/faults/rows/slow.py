"""Faults of sinks that answer slowly (matrix 18)."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.rows import network
from tests.faults.rows.network import ProxiedPeer

DELAY_S: Final = 1.0
SLOW_S: Final = 20.0


def slow(line: ProxiedPeer) -> Callable[[Bank, random.Random], Firing]:
    """Delays every request and response by DELAY_S for SLOW_S, and checks that derived records continue meanwhile."""

    def fire(bank: Bank, _: random.Random) -> Firing:
        before, at = line.wire.fired["delayed"], time.time()
        line.background.call(line.wire.delay(DELAY_S))
        try:
            threading.Event().wait(SLOW_S)
            meanwhile = bank.recovery.since(at)
        finally:
            line.background.call(line.wire.delay(0))
        count = line.wire.fired["delayed"] - before
        if not count:
            raise NotFiredError(f"{line.peer}: nothing was delayed")
        assert meanwhile is not None, f"no derived record came while {line.peer} was slow"
        return Firing(
            f"{line.peer}: {count} chunks delayed by {DELAY_S:.0f} s; derived records after {meanwhile:.1f} s",
            time.time(),
        )

    return fire


def _row(name: str, line: ProxiedPeer) -> Fault:
    return Fault(
        name, 18, f"{line.peer}: all data is delayed by {DELAY_S:.0f} s in each direction, for {SLOW_S:.0f} s",
        "derived records continue; all is delivered later; nothing is lost, duplicated or wrong", slow(line),
        affects=line.affects, around=line.around,
    )  # fmt: skip


ROWS = (_row("s3-answers-late", replace(network.S3)), _row("warehouse-answers-late", replace(network.WAREHOUSE)))
