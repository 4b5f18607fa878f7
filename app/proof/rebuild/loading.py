"""Loading the whole lake into a warehouse, once, with the loader that the warehouse worker runs. Every object is audited on its way."""

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
"""Objects read side by side; each is in memory as a whole while it is audited."""

Progress = Callable[[int, int], None]
"""Offsets done, and in all."""


class VerifyingWarehouse:
    """A warehouse that takes an object only if it is what it says it is: by hash, number of rows, offsets. A broken one is refused."""

    def __init__(self, warehouse: Warehouse, store: ObjectStore) -> None:
        self._warehouse, self._store = warehouse, store
        self.objects = 0
        """Loaded through here."""
        self._sound: set[str] = set()
        self._reads = asyncio.Semaphore(READS)

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Every row."""
        return await self._warehouse.ledger()

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Rows for chains that have none."""
        await self._warehouse.begin(chains)

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """All or nothing; SinkRefusedError names the object that is not sound."""
        unread = [found for step in steps for found in step.objects if found.object not in self._sound]
        for outcome in await asyncio.gather(*map(self._audit, unread), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        await self._warehouse.load(steps)
        self.objects += sum(len(step.objects) for step in steps)
        self._sound.clear()

    async def close(self) -> None:
        """Let go of the session."""
        await self._warehouse.close()

    async def _audit(self, found: LakeObject) -> None:
        async with self._reads:
            try:
                verified_lines(found, await self._store.get(found.object))
            except ContinuityError as error:
                raise SinkRefusedError(str(error)) from None
        self._sound.add(found.object)  # a load that is refused for another reason comes again, by halves


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it. `broken` says why a chain was not loaded to its end."""

    objects: int
    broken: Mapping[ChainKey, str]


async def load_all(
    warehouse: Warehouse,
    store: ObjectStore,
    landing: Mapping[str, str],
    settings: WarehouseSettings,
    progress: Progress = lambda _done, _total: None,
) -> Loaded:
    """Load every chain through the object that is its newest now. Goes on where the warehouse's ledger is.

    `landing`: the landing table of each topic.

    Raises what the loader gives up on: a warehouse or lake that does not answer.
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
    """The last offset of every chain in the lake."""
    goals: dict[ChainKey, int] = {}
    for topic in topics:
        for key in await chain.chains(store, topic):
            newest = await chain.newest(store, key)
            if newest is not None:
                goals[key] = newest.last_offset
    return goals
