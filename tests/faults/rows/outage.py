"""An outage of a sink (matrix 18, worst case): alerts are not delayed, and no worker's memory grows with the outage.

The outage takes less than a minute here. `python -m benchmarks.backpressure --seconds 600` measures a long one, with latencies before,
during and after.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.rows import network
from tests.faults.rows.network import ProxiedPeer

AWAY_S: Final = 40.0
FULL_S: Final = 10.0
"""After this time the buffers in front of the sink are full. Only changes committed later prove that the streams still run."""
MAX_GROWTH_MB: Final = 192


def away(line: ProxiedPeer) -> Callable[[Bank, random.Random], Firing]:
    """Passes no data to or from the sink for AWAY_S."""

    def fire(bank: Bank, _: random.Random) -> Firing:
        before, held = _private_mb(bank), line.wire.fired["held"]
        line.background.call(line.wire.hold())
        try:
            threading.Event().wait(FULL_S)
            late = time.time()
            threading.Event().wait(AWAY_S - FULL_S)
            derived, after = bank.recovery.since(late), _private_mb(bank)
        finally:
            line.background.call(line.wire.release())
        if line.wire.fired["held"] == held:
            raise NotFiredError(f"{line.peer}: nobody tried to reach it in {AWAY_S:.0f} s")
        assert derived is not None, (
            f"no change of the last {AWAY_S - FULL_S:.0f} s came through while {line.peer} was away"
        )
        growth = {name: after[name] - before[name] for name in before.keys() & after.keys()}
        assert max(growth.values()) < MAX_GROWTH_MB, f"memory grew while {line.peer} was away, by MB: {growth}"
        return Firing(
            f"{line.peer}: away for {AWAY_S:.0f} s; derived records within {derived:.1f} s, memory +{max(growth.values()):.0f} MB at most",
            time.time(),
        )

    return fire


def _private_mb(bank: Bank) -> dict[str, float]:
    """Anonymous memory of every worker, without page cache and mapped files."""
    found = {}
    for name in bank.workers.names():
        status = Path(f"/proc/{bank.workers.pid(name)}/status").read_text(encoding="utf-8")
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
        found[name] = int(line.split()[1]) / 1024
    return found


def _row(name: str, line: ProxiedPeer) -> Fault:
    return Fault(
        name, 18, f"{line.peer}: no data passes for {AWAY_S:.0f} s",
        f"derived records continue, no worker grows by {MAX_GROWTH_MB} MB; all is delivered later; nothing is lost, duplicated or wrong",
        away(line), affects=line.affects, around=line.around,
    )  # fmt: skip


ROWS = (_row("s3-away", replace(network.S3)), _row("warehouse-away", replace(network.WAREHOUSE)))
