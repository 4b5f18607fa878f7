"""Faults of the worker processes at critical points: the worker kills itself when it reaches the point (matrix 2)."""

import random
import shutil
from collections.abc import Callable
from typing import Final

from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.instruments import crash_points
from tests.faults.worker_supervisor import KILLED, Exit, tail
from tests.support.machine.waiting import eventually

REACH_TIMEOUT_S: Final = 180.0


def crash(point: str, latest: int) -> Callable[[Bank, random.Random], Firing]:
    """Restarts a worker that kills itself when it reaches the point for the n-th time; n is random, at most `latest`.

    The worker's next process runs without the crash point.
    """
    kind = crash_points.POINTS[point].kind

    def fire(bank: Bank, chance: random.Random) -> Firing:
        workers, proof = bank.workers, bank.home / f"{point}.proof"
        name, before = chance.choice(workers.names(kind)), crash_points.deaths(proof)
        worker = workers.worker(name)
        plain, hooks = worker.environment, worker.hooks
        workers.stop(name)
        if point == "during-restore":
            shutil.rmtree(bank.home / "state" / name)
        ended = len(workers.exits())
        armed = crash_points.environment(point, nth=chance.randint(1, latest), times=len(before) + 1, proof=proof)
        workers.add(name, kind, hooks=[*hooks, crash_points.HOOK], **plain, **armed).asked = True
        found: list[Exit] = []

        def died() -> bool:
            found[:] = [end for end in workers.exits(ended) if end.name == name]
            return bool(found)

        eventually(
            died, timeout_s=REACH_TIMEOUT_S,
            message=f"{name} did not reach {point} in {REACH_TIMEOUT_S:.0f} s:\n{tail(workers.log(name))}",
        )  # fmt: skip
        worker.environment, worker.hooks = plain, hooks
        proofs = crash_points.deaths(proof)[len(before) :]
        if found[0].code != KILLED or len(proofs) != 1:
            raise NotFiredError(f"{found[0]}, with {proofs or 'no proof'}:\n{tail(workers.log(name))}")
        return Firing(f"{name}: {proofs[0]}, exit code {found[0].code}", found[0].at)

    return fire


def _row(point: str, does: str, holds: str, latest: int, times: int = 3) -> Fault:
    return Fault(f"crash-{point}", 2, f"a worker kills itself {does}", holds, crash(point, latest), times=times)


ROWS = (
    _row(
        "after-outputs", "when a transaction's outputs are at the broker and none of its changelog records are",
        "the transaction is aborted; no consumer sees its outputs; they are produced again", 25,
    ),
    _row(
        "after-changelog", "when all records of a transaction are at the broker, before it requests the commit",
        "the transaction is aborted; no consumer sees its outputs or its state", 25,
    ),
    _row(
        "after-commit", "when a transaction is committed and RocksDB is not written yet",
        "RocksDB is behind Kafka and is restored from the changelog; nothing is processed again", 25,
    ),
    _row("during-restore", "in the middle of restoring an empty state", "the next process restores the rest, or everything", 2, 2),
    _row("mid-upload", "when half of an object's body is sent to S3", "S3 has no such object; its records are in the next one", 12),
    _row("after-upload", "when an object is in S3 and not announced yet", "the loader finds it by listing, and loads it once", 12),
    _row(
        "before-load-commit", "when a load has copied its rows and moved the ledger, before COMMIT",
        "the warehouse rolls the load back", 2, 2,
    ),
    _row(
        "after-load-commit", "when a load is committed and the group's offset in Kafka is not",
        "the ledger has the load; it is loaded once", 2, 2,
    ),
)  # fmt: skip
