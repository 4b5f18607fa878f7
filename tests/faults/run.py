"""Runs rows of the table of faults on a bank (load, fault, recovery, drain, verification) and returns their results."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from typing import Final

from app.config.settings import SnowflakeSettings
from app.config.topics import VELOCITY
from app.proof.reconcile import barrier
from app.proof.reconcile.report import ReconcileError
from app.proof.reconcile.warehouse import CurrentRowsReader
from app.runtime.progress import OnProgress
from sinks.base import SinkError
from tests.faults.bank import Bank
from tests.faults.catch_up import CatchUp, CatchUpTimeoutError
from tests.faults.fault import Fault, Firing
from tests.faults.results import FaultResult
from tests.faults.verify import Verifier
from tests.faults.worker_supervisor import KILLED, tail
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

RECOVERY_TIMEOUT_S: Final = 300.0
DRAIN_TIMEOUT_S: Final = 900.0


class Runner:
    """Runs rows on one bank, one after the other. Each verification starts where the previous one ended."""

    def __init__(self, bank: Bank, seed: int, on_progress: OnProgress) -> None:
        self.bank, self.seed, self.say = bank, seed, on_progress
        self._drain, self._verifier = CatchUp(bank), Verifier(bank)
        self._exits = 0

    def run(self, fault: Fault) -> FaultResult:
        """Fires the fault as often as its row says, and verifies the bank."""
        outcome = FaultResult(fault.name, fault.number, fault.does, fault.holds, stopped=fault.stops, seed=self.seed)
        began, rows = time.monotonic(), self.bank.confirmed.rows
        with fault.around(self.bank):
            self.bank.load.start(fault.rate)
            try:
                self._fire(fault, outcome)
            except (AssertionError, ReconcileError, SinkError) as error:
                outcome.problems.append(f"{type(error).__name__}: {error}")
            self.bank.load.stop()
            drained = not fault.stops and self._drained(outcome)
        if drained:
            outcome.problems += fault.check(self.bank)
        self.conclude(outcome, fault, drained=drained, began=began, rows=rows)
        return outcome

    def finish(self, outcome: FaultResult, fault: Fault, *, began: float, rows: int) -> None:
        """Drains and verifies the bank after the load has stopped. `rows` is the number of row changes at the begin."""
        self.conclude(outcome, fault, drained=self._drained(outcome), began=began, rows=rows)

    def conclude(self, outcome: FaultResult, fault: Fault, *, drained: bool, began: float, rows: int) -> None:
        """Verifies the drained bank, and checks the workers' exit codes."""
        if drained:
            started = time.monotonic()
            verdict = self._verifier.run()
            outcome.verify_s = round(time.monotonic() - started, 1)
            outcome.lost, outcome.doubled, outcome.wrong = verdict.lost, verdict.doubled, verdict.wrong
            outcome.problems += verdict.details
        self._judge_exits(fault, outcome)
        outcome.events = self.bank.confirmed.rows - rows
        outcome.seconds = round(time.monotonic() - began, 1)

    def _fire(self, fault: Fault, outcome: FaultResult) -> None:
        chance = random.Random(f"{self.seed}/{fault.name}")
        for _ in range(fault.times):
            time.sleep(chance.uniform(*fault.pause_s))
            self.bank.load.check()
            firing = fault.fire(self.bank, chance)
            outcome.fired += firing.count
            outcome.proofs.append(firing.proof)
            if fault.recovers:
                self._recover(firing, outcome)

    def _recover(self, firing: Firing, outcome: FaultResult) -> None:
        eventually(
            lambda: self.bank.recovery.since(firing.at) is not None,
            timeout_s=RECOVERY_TIMEOUT_S,
            message=f"no new record in every partition of the velocity topic {RECOVERY_TIMEOUT_S:.0f} s after {firing.proof}\n"
            + self.bank.logs(),
        )
        outcome.recovery_s.append(round(self.bank.recovery.since(firing.at) or 0.0, 2))
        wanted = self.bank.recovery.offsets(firing.at)
        ids = asyncio.run(barrier.topic_ids(self.bank.kafka, [VELOCITY.name]))
        with contextlib.closing(CurrentRowsReader(settings_of(self.bank.environment, SnowflakeSettings))) as warehouse:
            barrier.wait_for_ledger(warehouse, wanted, ids, timeout_s=RECOVERY_TIMEOUT_S, on_progress=lambda _: None)
        outcome.landed_s.append(round(time.time() - firing.at, 2))

    def _drained(self, outcome: FaultResult) -> bool:
        """Whether the bank is drained. If not, it cannot be verified: missing records may still arrive."""
        try:
            outcome.drain_s = round(self._drain.run(DRAIN_TIMEOUT_S), 2)
        except CatchUpTimeoutError as error:
            outcome.problems.append(str(error))
            return False
        return True

    def _judge_exits(self, fault: Fault, outcome: FaultResult) -> None:
        ended = self.bank.workers.exits(self._exits)
        self._exits += len(ended)
        outcome.exits = {str(code): count for code, count in sorted(Counter(end.code for end in ended).items())}
        unasked = [end for end in ended if end.code == KILLED and not end.asked]
        strange = [end for end in ended if end.code not in fault.exits]
        outcome.problems += [f"{end}:\n{tail(end.log)}" for end in (*unasked, *strange)]
