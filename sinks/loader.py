"""The loader: from the chains in the lake to the landing tables, by the ledger. One transaction at a time takes all that is at hand.

Announcements are hints. One that links to what the ledger has is loaded without asking the lake; one that does not link means that another
was lost, and then the lake is listed, as it is at the start and every now and then. What a load achieved is read from the ledger whenever
there is any doubt, so a loader may be killed anywhere and two of them may run at once.
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
"""Loads' worth of objects kept in memory; what is beyond is listed again later."""
CONCURRENT_READS = 16
MAX_FAILURES = 10
"""In a row, of a warehouse that does not answer, before the worker leaves and lets its supervisor decide."""
MAX_BACKOFF_S = 5.0


class Loader:
    """Loads the chains of this worker. `owns` says which they are, so that workers share the work; it is no matter of correctness.

    `landing` maps topics to landing tables; other topics are not loaded. `run` serves until cancelled.
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
        """The ledger was read since it was last in doubt."""
        self._changed = asyncio.Condition()
        self._reads = asyncio.Semaphore(CONCURRENT_READS)
        self._sweep_due = asyncio.Event()
        self._stale = True
        """The ledger has to be read before anything is loaded."""

    def hint(self, found: LakeObject) -> ChainKey | None:
        """Take an announcement. Answers its chain; None if nothing will come of it now."""
        try:
            key, start = chain.parse(found.object)
        except ValueError as error:
            logger.warning("an announcement is ignored: %s", error)
            return None
        if key.topic not in self._landing or start != found.previous_last_offset + 1 or found.last_offset < start:
            logger.warning("an announcement is ignored: %s is not loaded, or contradicts itself", found.object)
            return None
        known = self._chains.setdefault(key, ChainBacklog(LedgerRow()))
        if known.broken:
            return None
        if found.last_offset > known.row.last_offset:
            known.waiting[found.previous_last_offset] = found
            self._wake.set()
        return key

    def loaded(self, key: ChainKey, last_offset: int) -> bool:
        """Whether the ledger has passed this offset, as far as is known here."""
        known = self._chains.get(key)
        return known is not None and known.row.last_offset >= last_offset

    def reached(self, key: ChainKey) -> int:
        """The offset that the ledger has passed, as far as is known here; -1: none."""
        known = self._chains.get(key)
        return -1 if known is None else known.row.last_offset

    def broken(self) -> dict[ChainKey, str]:
        """The chains that are set aside, and why."""
        return {key: known.broken for key, known in self._chains.items() if known.broken}

    async def room(self) -> None:
        """Wait while too many objects wait already."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting() < MAX_WAITING * self._settings.max_objects)

    def sweep_soon(self) -> None:
        """List the lake: announcements before this moment may have gone elsewhere."""
        self._sweep_due.set()

    async def run(self) -> None:
        """Load what comes, for as long as the worker lives."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._cycle, "load"))
                tasks.create_task(self._repeat(self._sweep_when_due, "sweep"))
        except* Exception as group:  # noqa: BLE001 - whatever it is: a loader that has ended must not look like an idle one
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
                logger.warning("%s failed, attempt %d: %s. The ledger will say what came of it", name, failures, error)
                self._stale = True
                await asyncio.sleep(min(MAX_BACKOFF_S, 0.1 * 2**failures))

    async def _cycle(self) -> None:
        """One round: read what must be read, load what is at hand, or wait."""
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
        self._stale = True  # another loader may have loaded what was ours, or the other way round
        self._wake.set()

    async def _read_ledger(self) -> None:
        for key, row in (await self._warehouse.ledger()).items():
            self._chains.setdefault(key, ChainBacklog(row)).moved(row)
        self._stale = False
        self._read.set()
        async with self._changed:
            self._changed.notify_all()

    def _take(self) -> list[LoadStep]:
        """What to load now: of every chain the next objects, bounded in number and bytes; chains take turns."""
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
        """Load them together; when that is refused, by halves, until what is at fault stands alone."""
        try:
            with metrics.LOAD_SECONDS.time():
                await self._warehouse.load(steps)
        except LedgerConflictError as error:
            metrics.CONFLICTS.inc()
            logger.info("a load was undone, the ledger is read again: %s", error)
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
            self._chains[step.chain].moved(step.end)
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
        """Set a chain aside until the next sweep, loudly; the others go on."""
        logger.critical("nothing of %s/%d is loaded until this is mended: %s", key.topic, key.partition, reason)
        self._chains[key].broken = reason
        self._chains[key].waiting.clear()
        metrics.BROKEN_CHAINS.set(sum(1 for known in self._chains.values() if known.broken))

    async def _sweep(self) -> None:
        """Find every chain of ours in the lake, and what is behind its ledger row. Broken chains get another chance."""
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
            await self.room()
        metrics.BROKEN_CHAINS.set(sum(1 for known in self._chains.values() if known.broken))

    async def _chains_of(self, topic: str) -> list[ChainKey]:
        async with self._reads:
            return await chain.chains(self._store, topic)

    async def _list_unlinked(self) -> None:
        """List the chains in which a hint has nothing to link to. What then still links to nothing was no hint of ours."""
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
        """The lake still has what the ledger ends with: else it is another lake, and would be taken for an old one."""
        row = known.row
        if row.last_object:
            found = await self._stat(row.last_object)
            if found is None or (found.sha256, found.last_offset) != (row.last_sha256, row.last_offset):
                raise ContinuityError(
                    f"the ledger of {key.topic}/{key.partition} ends with {row.last_object}, which the lake does not have so"
                )
        return True

    async def _list(self, key: ChainKey, known: ChainBacklog) -> bool:
        """Add the objects behind those that are known, as far as there is room. Answers whether there may be more."""
        limit = min(chain.PAGE, MAX_WAITING * self._settings.max_objects - self._waiting())
        if limit <= 0:
            return True
        end = known.end()
        async with self._reads:
            names = await self._store.names(chain.folder(key), after=end.last_object, limit=limit)
        for found in await asyncio.gather(*(self._stat(name) for name in names)):
            if found is None or not chain.follows(found, end.last_offset, end.last_sha256):
                if known.waiting:
                    return False  # what is sound is loaded first; then this stands at the front
                raise ContinuityError(
                    f"the chain of {key.topic}/{key.partition} is broken behind offset {end.last_offset}: {found}"
                )
            known.waiting[end.last_offset] = found
            end = LedgerRow(found.last_offset, found.object, found.sha256)
        known.moved(known.row)  # the ledger may have gone on meanwhile
        return len(names) == limit

    async def _stat(self, name: str) -> LakeObject | None:
        async with self._reads:
            stat = await self._store.stat(name)
        return None if stat is None else chain.parse_metadata(name, stat)

    def _waiting(self) -> int:
        return sum(len(known.waiting) for known in self._chains.values())
