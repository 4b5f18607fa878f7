"""Loads the whole lake into a warehouse once, with the warehouse worker's loader. Every object is verified before it is loaded."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.config.settings import WarehouseSettings
from app.errors import ContinuityError
from sinks import chain
from sinks.base import ChainKey, LakeObject, LedgerRow, LoadStep, ObjectStore, SinkRefusedError, Warehouse
from sinks.chain_verification import verified_lines
from sinks.loader import Loader

LOOK_S: Final = 0.1
READS: Final = 4
"""Objects read concurrently. Each one is in memory as a whole while it is verified."""

Progress = Callable[[int, int], None]
"""Called with the number of offsets loaded and the total."""


class VerifyingWarehouse:
    """A warehouse that loads an object only if its hash, row count and offsets match its metadata, and rejects it otherwise."""

    def __init__(self, warehouse: Warehouse, store: ObjectStore) -> None:
        self._warehouse, self._store = warehouse, store
        self.objects = 0
        """The number of objects loaded."""
        self._sound: set[str] = set()
        self._reads = asyncio.Semaphore(READS)

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every row of the ledger."""
        return await self._warehouse.ledger()

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Adds ledger rows for chains that have none."""
        await self._warehouse.begin(chains)

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """Loads all steps or none. SinkRefusedError names an object that fails verification."""
        unread = [found for step in steps for found in step.objects if found.object not in self._sound]
        for outcome in await asyncio.gather(*map(self._audit, unread), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        await self._warehouse.load(steps)
        self.objects += sum(len(step.objects) for step in steps)
        self._sound.clear()

    async def close(self) -> None:
        """Closes the session."""
        await self._warehouse.close()

    async def _audit(self, found: LakeObject) -> None:
        async with self._reads:
            try:
                verified_lines(found, await self._store.get(found.object))
            except ContinuityError as error:
                raise SinkRefusedError(str(error)) from None
        self._sound.add(found.object)  # the loader retries a load that was rejected for another reason in halves


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading. `broken` says why a chain was not loaded to its end."""

    objects: int
    broken: Mapping[ChainKey, str]


async def load_all(
    warehouse: Warehouse,
    store: ObjectStore,
    landing: Mapping[str, str],
    settings: WarehouseSettings,
    progress: Progress = lambda _done, _total: None,
) -> Loaded:
    """Loads every chain through its newest object at the time of the call. Resumes from the warehouse's ledger.

    `landing`: the landing table of each topic.

    Raises the error on which the loader gives up: the warehouse or the lake does not answer.
    """
    goals = await _goals(store, landing)
    total = sum(last + 1 for last in goals.values())
    audited = VerifyingWarehouse(warehouse, store)
    failures: list[BaseException] = []
    loader = Loader(audited, store, landing, settings, fail=lambda error, _where: failures.append(error))
    task = asyncio.create_task(loader.run(), name="rebuild")
    try:
        while True:
            broken = loader.broken()
            progress(sum(min(loader.loaded_offset(key), last) + 1 for key, last in goals.items()), total)
            if failures:
                raise failures[0]
            if all(key in broken or loader.is_loaded(key, last) for key, last in goals.items()):
                return Loaded(audited.objects, {key: broken[key] for key in goals if key in broken})
            await asyncio.wait({task}, timeout=LOOK_S)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _goals(store: ObjectStore, topics: Iterable[str]) -> dict[ChainKey, int]:
    """Returns the last offset of every chain in the lake."""
    goals: dict[ChainKey, int] = {}
    for topic in topics:
        for key in await chain.chains(store, topic):
            newest = await chain.newest(store, key)
            if newest is not None:
                goals[key] = newest.last_offset
    return goals
