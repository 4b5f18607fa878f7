"""Records, partitions, loaders, and in-memory or stand-in lakes and warehouses, for tests of the sinks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config.settings import LakeSettings, WarehouseSettings
from sinks.archive import LakePartition
from sinks.base import ChainKey, LakeObject, ObjectStore, Warehouse
from sinks.chain import chains
from sinks.chain_verification import verify_chain
from sinks.lines import Line, read
from sinks.loader import Loader
from sinks.memory import InMemoryObjectStore, InMemoryWarehouse
from sinks.snowflake import SnowflakeWarehouse
from sinks.snowpipe_client import SnowpipeClient
from sinks.snowpipe_streaming import StreamingWarehouse, pipe_name
from tests.support.machine.waiting import until
from tests.support.warehouse.snowpipe_server import SnowpipeServer

TOPIC, LANDING, TOPIC_ID = "bank.alerts", "ALERTS", "first"
TABLES = {TOPIC: LANDING, "bank.velocity": "VELOCITY", "bank.transactions": "TRANSACTIONS"}


@dataclass(frozen=True)
class Record:
    """A Kafka record."""

    offset: int
    value: bytes | None = b'{"amount":"1.50"}'
    key: bytes | None = b'{"customer_id":1}'
    topic: str = TOPIC
    partition: int = 0
    timestamp: int = 1_700_000_000_000
    headers: Sequence[tuple[str, bytes]] = ()


def records(*offsets: int, topic: str = TOPIC, partition: int = 0) -> list[Record]:
    """Records with these offsets. Each value contains the offset."""
    return [Record(n, b'{"n":%d}' % n, topic=topic, partition=partition) for n in offsets]


class WorkerDiedError(Exception):
    """Raised in a test where a partition or a loader would end the process."""


@dataclass
class FailureRecorder:
    """Replaces `die` and records its calls."""

    causes: list[BaseException] = field(default_factory=list)

    def __call__(self, error: BaseException, where: str) -> None:
        self.causes.append(error)
        raise WorkerDiedError(where) from error


@dataclass
class SinkEnvironment:
    """A lake and a warehouse that loads from it. `rows` reads a landing table as lines."""

    store: ObjectStore
    warehouse: Warehouse
    rows: Callable[[str], list[Line]]
    second_store: Callable[[], ObjectStore]
    empty_store: Callable[[], ObjectStore]
    second_warehouse: Callable[[], Warehouse]
    execute: Callable[[str], list[tuple[object, ...]]]
    real: bool

    def loader(self, *, deaths: FailureRecorder | None = None, **settings: Any) -> Loader:
        """A loader. By default its sweeps are far apart."""
        chosen = WarehouseSettings(**({"load_interval_ms": 0, "sweep_interval_ms": 600_000} | settings))
        return Loader(self.warehouse, self.store, TABLES, chosen, fail=deaths or FailureRecorder())

    async def lake(self, topic: str = TOPIC) -> dict[tuple[str, int], list[int]]:
        """The offsets in the lake by topic id and partition. Raises if a chain is broken."""
        return {
            (key.topic_id, key.partition): [
                row.offset async for _, rows in verify_chain(self.store, key) for row in rows
            ]
            for key in await chains(self.store, topic)
        }


def partition(
    store: ObjectStore,
    *,
    announce: Callable[[LakeObject], object] = lambda _: None,
    number: int = 0,
    topic: str = TOPIC,
    topic_id: str = TOPIC_ID,
    deaths: FailureRecorder | None = None,
    slots: int = 4,
    **settings: Any,
) -> LakePartition:
    """A partition of the lake. The default age limit is so high that only rows and bytes cut segments."""

    async def asked_topic_id() -> str:
        return topic_id

    def told(found: LakeObject) -> None:
        announce(found)

    return LakePartition(
        topic,
        number,
        store=store,
        topic_id=asked_topic_id,
        announce=told,
        settings=LakeSettings(**({"max_age_ms": 600_000} | settings)),
        slots=asyncio.Semaphore(slots),
        fail=deaths or FailureRecorder(),
    )


def chain_key(number: int = 0, topic: str = TOPIC) -> ChainKey:
    """The chain of a partition of the tests' topic."""
    return ChainKey(topic, TOPIC_ID, number)


def no_sql(_: str) -> list[tuple[object, ...]]:
    raise NotImplementedError("there is no SQL in memory")


@asynccontextmanager
async def memory_world() -> AsyncIterator[SinkEnvironment]:
    """A sink environment in memory."""
    store = InMemoryObjectStore()
    tables = InMemoryWarehouse(store)

    def rows(table: str) -> list[Line]:
        return [read(line) for line in tables.tables.get(table, ())]

    yield SinkEnvironment(store, tables, rows, lambda: store, InMemoryObjectStore, lambda: tables, no_sql, real=False)


PIPES = {pipe_name(table): table for table in TABLES.values()}


def streaming_warehouse(
    server: SnowpipeServer, ledger: InMemoryWarehouse | SnowflakeWarehouse, store: ObjectStore, **settings: Any
) -> StreamingWarehouse:
    """A client of the stand-in. By default the ledger's table is updated at once."""
    chosen = {"streaming_ledger_interval_ms": 0, "streaming_commit_timeout_s": 2, "streaming_request_bytes": 300}
    client = SnowpipeClient(server.settings())
    return StreamingWarehouse(client, ledger, store, TABLES, WarehouseSettings(**(chosen | settings)))


@dataclass
class Streaming:
    """A sink environment whose warehouse is a client of the stand-in for Snowpipe Streaming, and the stand-in."""

    server: SnowpipeServer
    ledger: InMemoryWarehouse
    world: SinkEnvironment


@asynccontextmanager
async def streaming_world(folder: Path) -> AsyncIterator[Streaming]:
    """A sink environment with lake and ledger table in memory and the warehouse over HTTP. An object takes several requests."""
    store = InMemoryObjectStore()
    ledger = InMemoryWarehouse(store)
    landed: dict[str, list[Line]] = {}
    opened: list[StreamingWarehouse] = []

    def commit(table: str, rows: Sequence[str]) -> None:
        landed.setdefault(table, []).extend(read(row.encode()) for row in rows)

    async with SnowpipeServer(folder, PIPES, commit, "BANK") as server:

        def another() -> Warehouse:
            opened.append(streaming_warehouse(server, ledger, store))
            return opened[-1]

        try:
            world = SinkEnvironment(
                store, another(), lambda table: landed.get(table, []), lambda: store, InMemoryObjectStore, another, no_sql, real=False
            )  # fmt: skip
            yield Streaming(server, ledger, world)
        finally:
            for one in opened:
                await one.close()


def offsets(rows: Sequence[Line]) -> list[int]:
    """Sorted offsets, with duplicates."""
    return sorted(row.offset for row in rows)


async def archived(one: LakePartition, position: int) -> None:
    await until(lambda: one.position == position)


async def write(
    world: SinkEnvironment, *numbers: int, number: int = 0, topic: str = TOPIC, rows: int = 1
) -> list[LakeObject]:
    """Writes records with these offsets to the lake, `rows` to an object. Returns the announcements."""
    announced: list[LakeObject] = []
    one = partition(world.store, announce=announced.append, number=number, topic=topic, max_rows=rows)
    await one.open()
    announced.clear()
    await one.process(records(*numbers, topic=topic, partition=number))
    await archived(one, numbers[-1] + 1)
    await one.close()
    return announced


class Running:
    """Runs a loader, as an async context manager."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    async def __aenter__(self) -> Loader:
        self._task = asyncio.create_task(self.loader.run())
        return self.loader

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def load_all(loader: Loader, last: int) -> None:
    """Runs a loader until the tests' partition is loaded up to and including this offset."""
    async with Running(loader):
        await until(lambda: loader.is_loaded(chain_key(), last))
