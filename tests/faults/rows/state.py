"""Faults of the local state: a full disk (12), damaged, missing and old files (13), and a lock held by another process (14)."""

import asyncio
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rocksdict import Cache

from app.engine.store import Store
from app.topology.partition_groups import groups
from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.instruments import damage
from tests.faults.instruments.small_disk import SmallDisk, small_disk, unavailable
from tests.faults.instruments.state_comparison import compare_state
from tests.faults.worker_supervisor import tail
from tests.support.catalogue import CATALOGUE
from tests.support.machine.waiting import eventually

NAME: Final = "streams-1"
REACT_TIMEOUT_S: Final = 120.0
AGE_S: Final = 6.0
"""Age of the copy that is restored."""
DISK_MB: Final = 48
Fire = Callable[[Bank, random.Random], Firing]


def _directory(bank: Bank) -> Path:
    """The directory of the worker's stores: the first subdirectory of its state directory."""
    return bank.home / "state" / NAME / "0"


def _stop(bank: Bank) -> None:
    bank.workers.stop(NAME)


def _start(bank: Bank) -> None:
    worker = bank.workers.worker(NAME)
    bank.workers.add(NAME, worker.kind, hooks=worker.hooks, **worker.environment)


def damaged(kind: damage.Damage) -> Fire:
    """Stops the worker, damages each of its stores, and starts it."""

    def fire(bank: Bank, chance: random.Random) -> Firing:
        _stop(bank)
        found = damage.stores(_directory(bank))
        if not found:
            raise NotFiredError(f"{NAME} has no stores")
        done = [f"{store.parent.name}/{store.name}: {kind(store, chance)}" for store in found]
        at = time.time()
        _start(bank)
        return Firing(f"{len(done)} stores, such as {done[0]}", at, len(done))

    return fire


def old_copy(bank: Bank, _: random.Random) -> Firing:
    """Replaces all stores by a copy that is AGE_S old."""
    kept = bank.home / "copy"
    shutil.rmtree(kept, ignore_errors=True)
    _stop(bank)
    shutil.copytree(_directory(bank), kept)
    _start(bank)
    bank.workers.ready(NAME)
    threading.Event().wait(AGE_S)
    _stop(bank)
    behind = {
        store.relative_to(kept): _offset(bank, _directory(bank) / store.relative_to(kept)) - _offset(bank, store)
        for store in damage.stores(kept)
    }
    shutil.rmtree(_directory(bank))
    shutil.copytree(kept, _directory(bank))
    at = time.time()
    _start(bank)
    if not any(count > 0 for count in behind.values()):
        raise NotFiredError("nothing had happened since the copy was made")
    return Firing(f"{len(behind)} stores put back, {sum(behind.values())} changelog offsets behind", at)


def _offset(bank: Bank, path: Path) -> int:
    """The sum of the changelog offsets of a store's tables."""
    group = next(group for group in groups(CATALOGUE, bank.kafka) if group.name == path.parent.name)
    store = Store(path, block_cache=Cache(1 << 20))
    try:
        return sum(store.changelog_offset(log.table) for log in group.changelogs)
    finally:
        store.close()


def locked(bank: Bank, chance: random.Random) -> Firing:
    """Opens a store in this process before the worker starts, and closes it when the worker has reported it."""
    _stop(bank)
    path = chance.choice(damage.stores(_directory(bank)))
    store = Store(path, block_cache=Cache(1 << 20))
    seen = bank.workers.log(NAME).stat().st_size
    try:
        _start(bank)
        eventually(
            lambda: "is in use by another process" in _log(bank, seen), timeout_s=REACT_TIMEOUT_S,
            message=f"{NAME} does not mind that {path} is open elsewhere:\n{tail(bank.workers.log(NAME))}",
        )  # fmt: skip
    finally:
        store.close()
    return Firing(f"{NAME} found {path.parent.name}/{path.name} in use, and left", time.time())


def _log(bank: Bank, since: int) -> str:
    return bank.workers.log(NAME).read_bytes()[since:].decode(errors="replace")


_disk: SmallDisk


@contextmanager
def _on_a_small_disk(bank: Bank) -> Iterator[None]:
    """Moves the worker's state to a separate small file system inside the block."""
    global _disk
    _stop(bank)
    with small_disk(bank.home / "small-disk", DISK_MB) as _disk:
        worker = bank.workers.worker(NAME)
        before = dict(worker.environment)
        worker.environment = {**before, "BANKSTREAM_ENGINE_STATE_DIR": str(_disk.path)}
        _start(bank)
        bank.workers.ready(NAME)
        try:
            yield
        finally:
            _stop(bank)
            worker.environment = before
            _start(bank)
            bank.workers.ready(NAME)


def disk_full(bank: Bank, _: random.Random) -> Firing:
    """Fills the disk until the worker has reported it. Recovery is measured from when there is free space again."""
    seen, ended = bank.workers.log(NAME).stat().st_size, len(bank.workers.exits())
    taken = _disk.fill()
    try:
        bank.workers.kill(NAME)  # this loses what is in memory, so that its next process needs the disk at once
        eventually(
            lambda: "No space left on device" in _log(bank, seen) and len(bank.workers.exits(ended)) > 1, timeout_s=REACT_TIMEOUT_S,
            message=f"{NAME} does not notice that its disk is full:\n{tail(bank.workers.log(NAME))}",
        )  # fmt: skip
    finally:
        _disk.free()
    return Firing(f"{NAME} met a full disk ({taken} bytes of ballast) and left", time.time())


def state_is_as_the_changelogs_say(bank: Bank) -> list[str]:
    """Compares the worker's state with its changelogs, entry by entry.

    A store that the first comparison finds damaged and marks is compared by a second one, after its restore.
    """
    compared, differences = _audited(bank)
    if any(_directory(bank).rglob("*.damaged")):
        bank.workers.ready(NAME)
        compared, again = _audited(bank)
        differences += again
    return differences if compared else [f"nothing of {NAME}'s state could be compared with a changelog"]


def _audited(bank: Bank) -> tuple[int, list[str]]:
    _stop(bank)
    try:
        return asyncio.run(compare_state(_directory(bank), groups(CATALOGUE, bank.kafka), bank.kafka))
    finally:
        _start(bank)


def _row(number: int, name: str, does: str, holds: str, fire: Fire, *, times: int = 1) -> Fault:
    return Fault(name, number, does, holds, fire, times=times, check=state_is_as_the_changelogs_say)


REMADE: Final = "the state is restored from the changelogs and equals them"

DISK_FULL: Final = Fault(
    "state-disk-full", 12, "the disk of a worker's local state is full", "the worker exits, and continues when there is free space",
    disk_full, times=2, around=_on_a_small_disk,
)  # fmt: skip

ROWS = (
    *(() if unavailable() else (DISK_FULL,)),  # only root can mount a file system
    _row(13, "state-truncated", "a file of every store of a worker is cut in half", REMADE, damaged(damage.truncated), times=2),
    _row(13, "state-flipped", "bits of every store of a worker are flipped", REMADE, damaged(damage.flipped), times=2),
    _row(13, "state-file-gone", "a file of every store of a worker is deleted", REMADE, damaged(damage.file_gone), times=2),
    _row(13, "state-gone", "all stores of a worker are deleted", REMADE, damaged(damage.all_gone)),
    _row(
        13, "state-old-copy", f"a worker's state is replaced by a copy that is {AGE_S:.0f} s old", "the missing part is replayed",
        old_copy, times=2,
    ),
    _row(
        14, "state-locked", "another process has a store of a worker open", "the worker exits and restarts until the store is free",
        locked, times=2,
    ),
)  # fmt: skip
