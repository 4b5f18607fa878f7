"""Loads the chains of the lake into the landing tables and records the progress in the ledger. One transaction loads all known objects.

Announcements are hints. An announced object that follows the ledger's last one is loaded without listing the lake. One that does not follow
shows that another announcement was lost; the lake is then listed, as it is at the start and at intervals. After any failure the outcome of
a load is read from the ledger, so a loader may be killed at any time, and two loaders may run at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

from app.config.settings import WarehouseSettings
from app.engine.exits import die
from app.errors import ContinuityError
from sinks import chain, metrics
from sinks.backlog import ChainBacklog
from sinks.base import (
    ChainKey,
    LakeObject,
    LedgerConflictError,
    LedgerRow,
    LoadStep,
    ObjectStore,
    SinkRefusedError,
    SinkUnavailableError,
    Warehouse,
)

logger = logging.getLogger(__name__)

MAX_WAITING = 10
"""Maximum of waiting objects in memory, in multiples of the objects of one load. Objects beyond it are listed again later."""
CONCURRENT_READS = 16
MAX_FAILURES = 10
"""Failures in a row of an unavailable warehouse or lake after which the worker exits, so that its supervisor restarts it."""
MAX_BACKOFF_S = 5.0


class Loader:
    """Loads the chains of this worker. `owns` selects them, so that workers share the work; correctness does not depend on it.

    `landing` maps topics to landing tables; other topics are not loaded. `run` works until cancelled.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        store: ObjectStore,
        landing: Mapping[str, str],
        settings: WarehouseSettings,
        owns: Callable[[ChainKey], bool] = lambda _: True,
        fail: Callable[[BaseException, str], None] = die,
    ) -> None:
        self._warehouse, self._store, self._landing = warehouse, store, landing
        self._settings, self._owns, self._fail = settings, owns, fail
        self._chains: dict[ChainKey, ChainBacklog] = {}
        self._wake = asyncio.Event()
        self._read = asyncio.Event()
        """Set once the ledger has been read."""
        self._changed = asyncio.Condition()
        self._reads = asyncio.Semaphore(CONCURRENT_READS)
        self._sweep_due = asyncio.Event()
        self._stale = True
        """Whether the ledger has to be read before the next load."""

    def on_announcement(self, found: LakeObject) -> ChainKey | None:
        """Add an announced object. Returns its chain; None if the announcement is ignored."""
        try:
            key, start = chain.parse(found.object)
        except ValueError as error:
            logger.warning("an announcement is ignored: %s", error)
            return None
        if key.topic not in self._landing or start != found.previous_last_offset + 1 or found.last_offset < start:
            logger.warning(
                "an announcement is ignored: %s is of a topic that is not loaded, or has inconsistent offsets",
                found.object,
            )
            return None
        known = self._chains.setdefault(key, ChainBacklog(LedgerRow()))
        if known.broken:
            return None
        if found.last_offset > known.row.last_offset:
            known.waiting[found.previous_last_offset] = found
            self._wake.set()
        return key

    def is_loaded(self, key: ChainKey, last_offset: int) -> bool:
        """Returns whether the last known ledger row has passed this offset."""
        known = self._chains.get(key)
        return known is not None and known.row.last_offset >= last_offset

    def loaded_offset(self, key: ChainKey) -> int:
        """Returns the last offset of the last known ledger row; -1 if nothing is loaded."""
        known = self._chains.get(key)
        return -1 if known is None else known.row.last_offset

    def broken(self) -> dict[ChainKey, str]:
        """Returns the chains that are not loaded until the next sweep, with the reasons."""
        return {key: known.broken for key, known in self._chains.items() if known.broken}

    async def wait_for_room(self) -> None:
        """Wait until the number of waiting objects is below the limit."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting() < MAX_WAITING * self._settings.max_objects)

    def request_sweep(self) -> None:
        """Request a listing of the lake, because earlier announcements may have gone to another worker."""
        self._sweep_due.set()

    async def run(self) -> None:
        """Load until cancelled. An unexpected error stops the worker."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._cycle, "load"))
                tasks.create_task(self._repeat(self._sweep_when_due, "sweep"))
        except* Exception as group:  # noqa: BLE001 - a loader that stopped for any error must not look idle
            self._fail(group.exceptions[0], "warehouse loader")

    async def _repeat(self, step: Callable[[], Awaitable[None]], name: str) -> None:
        failures = 0
        while True:
            try:
                await step()
                failures = 0
            except SinkUnavailableError as error:
                failures += 1
                metrics.LOADER_FAILURES.labels(name).inc()
                if failures == MAX_FAILURES:
                    raise
                logger.warning("%s failed, attempt %d: %s. The outcome is read from the ledger", name, failures, error)
                self._stale = True
                await asyncio.sleep(min(MAX_BACKOFF_S, 0.1 * 2**failures))

    async def _cycle(self) -> None:
        """Run one round: read the ledger if it is stale, then load the waiting objects, or wait for some."""
        if self._stale:
            await self._read_ledger()
        await self._list_unlinked()
        steps = self._take()
        metrics.WAITING_OBJECTS.set(self._waiting())
        if steps:
            await self._begin(steps)
            await self._load(steps)
            async with self._changed:
                self._changed.notify_all()
            await asyncio.sleep(self._settings.load_interval_ms / 1000)
            return
        self._wake.clear()
        if not self._stale:
            await self._wake.wait()

    async def _sweep_when_due(self) -> None:
        await self._read.wait()
        self._sweep_due.clear()
        await self._sweep()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.sweep_interval_ms / 1000):
                await self._sweep_due.wait()
        self._stale = True  # after a rebalance another loader may have loaded chains of this one
        self._wake.set()

    async def _read_ledger(self) -> None:
        for key, row in (await self._warehouse.ledger()).items():
            self._chains.setdefault(key, ChainBacklog(row)).advance(row)
        self._stale = False
        self._read.set()
        async with self._changed:
            self._changed.notify_all()

    def _take(self) -> list[LoadStep]:
        """Returns the next load: the next objects of every chain, in turns, limited in number and bytes."""
        sources = {
            key: iter(known.linked()) for key, known in self._chains.items() if known.waiting and not known.broken
        }
        taken: dict[ChainKey, list[LakeObject]] = {}
        count = size = 0
        while sources and count < self._settings.max_objects and size < self._settings.max_bytes:
            for key in list(sources):
                found = next(sources[key], None)
                if found is None:
                    del sources[key]
                    continue
                taken.setdefault(key, []).append(found)
                count, size = count + 1, size + found.bytes
                if count >= self._settings.max_objects or size >= self._settings.max_bytes:
                    break
        return [
            LoadStep(key, self._chains[key].row, objects, self._landing[key.topic]) for key, objects in taken.items()
        ]

    async def _begin(self, steps: Iterable[LoadStep]) -> None:
        fresh = [step.chain for step in steps if step.previous == LedgerRow()]
        try:
            await self._warehouse.begin(fresh)
        except LedgerConflictError:
            logger.info("another loader begins the same chains")
            self._stale = True

    async def _load(self, steps: list[LoadStep]) -> None:
        """Load the steps together. If the load is refused, load halves, until the refused object is alone."""
        try:
            with metrics.LOAD_SECONDS.time():
                await self._warehouse.load(steps)
        except LedgerConflictError as error:
            metrics.CONFLICTS.inc()
            logger.info("a load was rolled back, the ledger is read again: %s", error)
            self._stale = True
            return
        except SinkUnavailableError:
            metrics.UNKNOWN.inc()
            raise
        except SinkRefusedError as error:
            await self._divide(steps, error)
            return
        metrics.LAST_LOAD_TIME.set_to_current_time()
        metrics.LOAD_OBJECTS.observe(sum(len(step.objects) for step in steps))
        for step in steps:
            self._chains[step.chain].advance(step.end)
            metrics.LOADED_ROWS.labels(step.landing).inc(sum(found.rows for found in step.objects))

    async def _divide(self, steps: list[LoadStep], error: SinkRefusedError) -> None:
        if len(steps) > 1:
            middle = len(steps) // 2
            await self._load(steps[:middle])
            await self._load(steps[middle:])
            return
        step = steps[0]
        if len(step.objects) == 1:
            self._break(step.chain, f"{step.objects[0].object} cannot be loaded: {error}")
            return
        middle = len(step.objects) // 2
        first = LoadStep(step.chain, step.previous, step.objects[:middle], step.landing)
        await self._load([first])
        if self._chains[step.chain].row == first.end:
            await self._load([LoadStep(step.chain, first.end, step.objects[middle:], step.landing)])

    def _break(self, key: ChainKey, reason: str) -> None:
        """Exclude a chain until the next sweep and log that as critical. The others continue."""
        logger.critical("%s/%d is not loaded until this is fixed: %s", key.topic, key.partition, reason)
        self._chains[key].broken = reason
        self._chains[key].waiting.clear()
        metrics.BROKEN_CHAINS.set(sum(1 for known in self._chains.values() if known.broken))

    async def _sweep(self) -> None:
        """List every chain that this worker owns, and its objects after the ledger row. Retries broken chains."""
        for found in await asyncio.gather(*(self._chains_of(topic) for topic in self._landing)):
            for key in found:
                self._chains.setdefault(key, ChainBacklog(LedgerRow()))
        ours = [key for key in self._chains if self._owns(key)]
        for key in ours:
            self._chains[key].broken = ""
        await asyncio.gather(*(self._guarded(key, self._verify) for key in ours))
        while ours:
            more = await asyncio.gather(*(self._guarded(key, self._list) for key in ours))
            self._wake.set()
            ours = [key for key, unfinished in zip(ours, more, strict=True) if unfinished]
            await self.wait_for_room()
        metrics.BROKEN_CHAINS.set(sum(1 for known in self._chains.values() if known.broken))

    async def _chains_of(self, topic: str) -> list[ChainKey]:
        async with self._reads:
            return await chain.chains(self._store, topic)

    async def _list_unlinked(self) -> None:
        """List the chains whose announced objects do not follow the ledger's last object. Their hints are dropped first."""
        lost = [
            key
            for key, known in self._chains.items()
            if known.waiting and not known.broken and next(iter(known.linked()), None) is None
        ]
        for key in lost:
            self._chains[key].waiting.clear()
        await asyncio.gather(*(self._guarded(key, self._list) for key in lost))

    async def _guarded(self, key: ChainKey, work: Callable[[ChainKey, ChainBacklog], Awaitable[bool]]) -> bool:
        known = self._chains[key]
        if known.broken:
            return False
        try:
            return await work(key, known)
        except (ContinuityError, SinkRefusedError) as error:
            self._break(key, str(error))
            return False

    async def _verify(self, key: ChainKey, known: ChainBacklog) -> bool:
        """Check that the lake still has the ledger's last object. If not, this is another lake, and must not be loaded."""
        row = known.row
        if row.last_object:
            found = await self._stat(row.last_object)
            if found is None or (found.sha256, found.last_offset) != (row.last_sha256, row.last_offset):
                raise ContinuityError(
                    f"the ledger of {key.topic}/{key.partition} ends with {row.last_object}, which is missing or different in the lake"
                )
        return True

    async def _list(self, key: ChainKey, known: ChainBacklog) -> bool:
        """Add the objects after the known ones, up to the limit of waiting objects. Returns whether there may be more."""
        limit = min(chain.PAGE, MAX_WAITING * self._settings.max_objects - self._waiting())
        if limit <= 0:
            return True
        end = known.end()
        async with self._reads:
            names = await self._store.names(chain.folder(key), after=end.last_object, limit=limit)
        for found in await asyncio.gather(*(self._stat(name) for name in names)):
            if found is None or not chain.follows(found, end.last_offset, end.last_sha256):
                if known.waiting:
                    return False  # the objects before it are loaded first; the next listing raises the error
                raise ContinuityError(
                    f"the chain of {key.topic}/{key.partition} is broken after offset {end.last_offset}: {found}"
                )
            known.waiting[end.last_offset] = found
            end = LedgerRow(found.last_offset, found.object, found.sha256)
        known.advance(known.row)  # the ledger may have advanced meanwhile
        return len(names) == limit

    async def _stat(self, name: str) -> LakeObject | None:
        async with self._reads:
            stat = await self._store.stat(name)
        return None if stat is None else chain.parse_metadata(name, stat)

    def _waiting(self) -> int:
        return sum(len(known.waiting) for known in self._chains.values())
