"""Tests writers and loaders that are killed, or get no response, at each critical point, in memory and on real parts."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from sinks.announcements import AnnouncementPartition
from sinks.base import (
    LakeObject,
    ObjectStore,
    SinkRefusedError,
    SinkUnavailableError,
    Warehouse,
)
from tests.support.machine.waiting import until
from tests.support.warehouse.sinks import (
    LANDING,
    FailureRecorder,
    Record,
    Running,
    SinkEnvironment,
    archived,
    load_all,
    offsets,
    partition,
    records,
    write,
)

pytestmark = pytest.mark.integration


class Breaking:
    """A store or a warehouse that calls `fault` before or after the real operation of that name, once."""

    def __init__(self, inner: Any, operation: str, when: str, fault: Callable[[], Any]) -> None:
        self._inner, self._operation, self._when, self._fault = inner, operation, when, fault
        self.fired = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if name != self._operation or self.fired:
            return real

        async def broken(*args: Any, **kwargs: Any) -> Any:
            if self.fired:
                return await real(*args, **kwargs)
            self.fired = True
            if self._when == "before":
                await self._fault()
            answer = await real(*args, **kwargs)
            await self._fault()
            return answer

        return broken


async def stop_for_ever() -> None:
    """Waits for ever, in place of a killed process."""
    await asyncio.Event().wait()


async def no_answer() -> None:
    raise SinkUnavailableError("the connection was cut")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_writer_killed_around_its_upload_does_not_break_the_chain(world: SinkEnvironment, when: str) -> None:
    await write(world, 0)
    store = Breaking(world.store, "put", when, stop_for_ever)
    killed = partition(cast("ObjectStore", store), max_rows=2)
    await killed.open()
    await killed.process(records(1, 2))
    await until(lambda: store.fired)
    await killed.close()
    announced: list[LakeObject] = []
    successor = partition(world.store, announce=announced.append, max_rows=3)
    position = await successor.open()
    assert position in (1, 3)
    await successor.process(records(*range(position, position + 3)))
    await archived(successor, position + 3)
    await successor.close()
    assert await world.lake() == {("first", 0): [*range(position + 3)]}
    assert announced[0].last_offset == position - 1, "whatever was not announced is announced now"


async def test_the_successor_continues_after_an_upload_that_was_stored_late(world: SinkEnvironment) -> None:
    late = partition(world.store, max_rows=2)
    await late.open()
    successor = partition(world.store, max_rows=3)
    await successor.open()
    await late.process(records(0, 1))
    await archived(late, 2)
    await successor.process(records(0, 1, 2))
    await archived(successor, 3)
    await late.close()
    await successor.close()
    assert await world.lake() == {("first", 0): [0, 1, 2]}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_loader_killed_around_its_commit_loads_everything_once(world: SinkEnvironment, when: str) -> None:
    await write(world, 0, 1, 2)
    tables = Breaking(world.warehouse, "load", when, stop_for_ever)
    async with Running(replace(world, warehouse=cast("Warehouse", tables)).loader()):
        await until(lambda: tables.fired)
        if when == "after":
            await until(lambda: len(world.rows(LANDING)) == 3)
    await write(world, 3)
    await load_all(world.loader(), 3)
    assert offsets(world.rows(LANDING)) == [0, 1, 2, 3]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_ledger_decides_a_load_without_a_response(world: SinkEnvironment, when: str) -> None:
    await write(world, 0, 1, 2)
    tables = Breaking(world.warehouse, "load", when, no_answer)
    await load_all(replace(world, warehouse=cast("Warehouse", tables)).loader(), 2)
    assert tables.fired
    assert offsets(world.rows(LANDING)) == [0, 1, 2]


async def test_a_hint_is_durable_when_its_object_is_loaded(world: SinkEnvironment) -> None:
    found = [*await write(world, 0), *await write(world, 1)]
    loader = world.loader()

    async def end() -> int:
        return 7

    hints = AnnouncementPartition(loader, end)
    assert await hints.open() == 7
    values = [msgspec.json.encode(one) for one in found]
    await hints.process([Record(7, values[0]), Record(8, b"no hint"), Record(9, values[1])])
    assert hints.position == 7
    async with Running(loader):
        await until(lambda: hints.position == 10)
    await hints.process([Record(10, values[0])])
    assert hints.position == 11, "an old hint has nothing to wait for"
    assert offsets(world.rows(LANDING)) == [0, 1]


async def test_a_writer_ends_the_worker_if_the_store_refuses(world: SinkEnvironment) -> None:
    async def refuse() -> None:
        raise SinkRefusedError("no such bucket")

    deaths = FailureRecorder()
    one = partition(cast("ObjectStore", Breaking(world.store, "put", "before", refuse)), deaths=deaths, max_rows=1)
    await one.open()
    await one.process(records(0))
    await until(lambda: deaths.causes)
    await one.close()
    assert one.position is None


async def test_memory_is_bounded_while_the_store_is_unavailable(world: SinkEnvironment) -> None:
    one = partition(cast("ObjectStore", Breaking(world.store, "put", "before", stop_for_ever)), max_rows=10)
    await one.open()
    feeding = asyncio.create_task(one.process(records(*range(1_000))))
    done, _ = await asyncio.wait([feeding], timeout=0.2)
    assert not done, "process waits: that is the backpressure"
    assert one._segment is not None
    assert len(one._segment.offsets) == 10
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await one.close()
