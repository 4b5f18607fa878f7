"""Faults of the worker processes at critical points: each worker kills itself exactly there (matrix 2)."""

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
    """A worker is started anew, and dies when it reaches the point for the n-th time, n drawn up to `latest`. Its next life is plain."""
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
        "after-outputs", "with a transaction's outputs at the broker and none of its changelog records",
        "the transaction is aborted; its outputs are never seen, and made again", 25,
    ),
    _row(
        "after-changelog", "with all records of a transaction at the broker, before it asks for the commit",
        "the transaction is aborted; neither outputs nor state of it are ever seen", 25,
    ),
    _row(
        "after-commit", "with a transaction committed and RocksDB not written",
        "RocksDB is behind Kafka and brought forward from the changelog; nothing is processed again", 25,
    ),
    _row("during-restore", "in the middle of restoring an empty state", "the next life restores the rest, or all", 2, 2),
    _row("mid-upload", "with half of an object's body sent to S3", "S3 has no such object; its records are in the next one", 12),
    _row("after-upload", "with an object in S3 that nobody was told of", "it is found by listing, and loaded once", 12),
    _row("before-load-commit", "with a load copied and its ledger moved, before COMMIT", "the warehouse undoes the load", 2, 2),
    _row("after-load-commit", "with a load committed, before the group's offset in Kafka", "the ledger says so; loaded once", 2, 2),
)  # fmt: skip
