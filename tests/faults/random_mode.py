"""Runs a seeded sequence of faults and load changes for a given time, then drains the bank and verifies everything once."""

import random
import time
from collections import Counter
from typing import Final

from tests.faults.fault import Fault, NotFiredError, nothing
from tests.faults.results import FaultResult
from tests.faults.run import Runner
from tests.faults.worker_supervisor import KILLED

NAME: Final = "random"
DOES: Final = "a seeded sequence of faults, rebalances and changes of the load, faults upon faults"
HOLDS: Final = "nothing lost, doubled or wrong"
PAUSE_S: Final = (0.3, 2.5)
RATES: Final = (0.5, 1.0, 1.0, 1.5)
"""Factors of the average rate."""
HOT_CHANCE: Final = 0.1
"""Probability that a change of the load makes one account hot."""
SHAPE_EVERY_S: Final = 12.0


def run(runner: Runner, rows: dict[str, Fault], *, seconds: float, events: int) -> FaultResult:
    """Runs the random mode. `events` is the number of row changes by the end. Faults that need a preparation are not drawn."""
    bank, chance = runner.bank, random.Random(runner.seed)
    faults = [row for row in rows.values() if row.weight and row.around is nothing]
    outcome = FaultResult(NAME, 0, DOES, HOLDS, seed=runner.seed, minutes=round(seconds / 60, 2))
    began, before, exits = time.monotonic(), bank.confirmed.rows, len(bank.workers.exits())
    end, shaped, fired, moments = began + seconds, 0.0, Counter[str](), list[float]()
    bank.load.start(round(events / seconds))
    while (now := time.monotonic()) < end:
        bank.load.check()
        if now - shaped > SHAPE_EVERY_S:
            shaped = now
            wanted = max(0, before + events - bank.confirmed.rows) / max(1.0, end - now)
            bank.load.rate = round(wanted * chance.choice(RATES))
            bank.load.hot_percent = 90 if chance.random() < HOT_CHANCE else 0
        fault = chance.choices(faults, [row.weight for row in faults])[0]
        try:
            firing = fault.fire(bank, chance)
        except NotFiredError as error:
            runner.say(f"   {fault.name} did not fire: {error}")
            continue
        except AssertionError as error:
            outcome.problems.append(f"{fault.name}: {error}")
            continue
        fired[fault.name] += firing.count
        moments.append(firing.at)
        time.sleep(chance.uniform(*PAUSE_S))
    bank.load.stop()
    outcome.load_s = round(time.monotonic() - began, 1)
    outcome.proofs = [f"{name}: {count}" for name, count in sorted(fired.items())]
    outcome.kills = sum(end.code == KILLED for end in bank.workers.exits(exits))
    outcome.fired = fired.total()
    runner.say(
        f"   {bank.confirmed.rows - before} row changes in {outcome.load_s:.0f} s, {outcome.kills} kill -9; draining"
    )
    runner.finish(outcome, faults[0], began=began, rows=before)
    recovered = (bank.recovery.since(at) for at in moments)
    outcome.recovery_s = [round(found, 2) for found in recovered if found is not None]
    return outcome
