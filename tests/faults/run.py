"""Runs rows on a bank: load, fault, recovery, drain, verification; and says what they came to."""

import random
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.bank import Bank
from tests.faults.draining import Drain, StuckError
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.keeper import KILLED, tail
from tests.faults.results import Outcome
from tests.faults.verify import Verifier
from tests.support.waiting import eventually

RECOVERY_TIMEOUT_S = 120.0
DRAIN_TIMEOUT_S = 240.0

Say = Callable[[str], None]


class Runner:
    """One bank and the rows that are run on it, one after the other; each is verified on its own."""

    def __init__(self, bank: Bank, seed: int, say: Say) -> None:
        self._bank, self._seed, self._say = bank, seed, say
        self._drain, self._verifier = Drain(bank), Verifier(bank)
        self._exits = 0

    def run(self, fault: Fault) -> Outcome:
        """Fire the fault as often as its row says, and verify."""
        bank, began, rows = self._bank, time.monotonic(), self._bank.ledger.rows
        outcome = Outcome(fault.name, fault.number, fault.does, fault.holds, seed=self._seed)
        chance = random.Random(f"{self._seed}/{fault.name}")
        try:
            with fault.around(bank):
                bank.load.start(fault.rate)
                for _ in range(fault.times):
                    time.sleep(chance.uniform(*fault.pause_s))
                    bank.load.check()
                    firing = fault.fire(bank, chance)
                    outcome.fired += firing.count
                    outcome.proofs.append(firing.proof)
                    self._recover(fault, firing, outcome)
                bank.load.stop()
                outcome.drain_s = round(self._drain.run(DRAIN_TIMEOUT_S), 2)
            outcome.problems += fault.check(bank)
        except (StuckError, NotFiredError, AssertionError) as error:
            outcome.problems.append(f"{type(error).__name__}: {error}")
            bank.load.stop()
        self._judge_exits(fault, outcome)
        self._verify(outcome)
        outcome.events = bank.ledger.rows - rows
        outcome.seconds = round(time.monotonic() - began, 1)
        return outcome

    def _recover(self, fault: Fault, firing: Firing, outcome: Outcome) -> None:
        if not fault.recovers:
            return
        eventually(
            lambda: self._bank.recovery.since(firing.at) is not None,
            timeout_s=RECOVERY_TIMEOUT_S,
            message=f"no new record in every partition of the velocity topic {RECOVERY_TIMEOUT_S:.0f} s after {firing.proof}\n"
            + self._bank.logs(),
        )
        outcome.recovery_s.append(round(self._bank.recovery.since(firing.at) or 0.0, 2))

    def _judge_exits(self, fault: Fault, outcome: Outcome) -> None:
        ended = self._bank.keeper.exits(self._exits)
        self._exits += len(ended)
        codes = Counter(end.code for end in ended)
        if codes:
            self._say(f"  exits of workers: {dict(codes)}")
        unasked = [end for end in ended if end.code == KILLED and not end.asked]
        strange = [end for end in ended if end.code not in fault.exits]
        outcome.problems += [f"{end}:\n{tail(end.log)}" for end in (*unasked, *strange)]

    def _verify(self, outcome: Outcome) -> None:
        verdict = self._verifier.run()
        outcome.lost, outcome.doubled, outcome.wrong = verdict.lost, verdict.doubled, verdict.wrong
        outcome.problems += verdict.details
