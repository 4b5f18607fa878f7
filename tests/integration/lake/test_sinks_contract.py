"""The contract of every lake and warehouse, in memory and on real parts: each record exists exactly once, whichever process dies."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from sinks import chain
from sinks.base import (
    LakeObject,
    LedgerConflictError,
    LedgerRow,
    LoadStep,
    SinkRefusedError,
)
from sinks.loader import Loader
from tests.support.machine.waiting import until
from tests.support.warehouse.sinks import (
    LANDING,
    TOPIC,
    FailureRecorder,
    Running,
    SinkEnvironment,
    archived,
    chain_key,
    load_all,
    memory_world,
    offsets,
    partition,
    records,
    write,
)

pytestmark = pytest.mark.integration

# the lake


async def test_an_empty_chain_begins_where_kafka_begins(world: SinkEnvironment) -> None:
    one = partition(world.store)
    assert await one.open() is None
    assert one.position is None
    await one.close()


async def test_a_partition_continues_after_its_newest_object(world: SinkEnvironment) -> None:
    await write(world, 0, 1, 2, 5, rows=2)
    one = partition(world.store, max_rows=2)
    assert await one.open() == 6
    await one.process(records(7, 9))
    await archived(one, 10)
    await one.close()
    assert await world.lake() == {("first", 0): [0, 1, 2, 5, 7, 9]}


async def test_the_next_name_continues_after_a_hole_in_the_offsets(world: SinkEnvironment) -> None:
    written = await write(world, 0, 3, 4, 9)
    assert [chain.parse(found.object)[1] for found in written] == [0, 1, 4, 5]


async def test_an_object_is_cut_by_age_alone(world: SinkEnvironment) -> None:
    one = partition(world.store, max_age_ms=20)
    await one.open()
    await one.process(records(0, 1))
    await archived(one, 2)
    await one.process(records(2))
    await archived(one, 3)
    await one.close()
    assert await world.lake() == {("first", 0): [0, 1, 2]}


async def test_an_object_is_cut_by_bytes(world: SinkEnvironment) -> None:
    written: list[LakeObject] = []
    one = partition(world.store, announce=written.append, max_bytes=250)
    await one.open()
    await one.process(records(*range(6)))
    await archived(one, 6)
    await one.close()
    assert [found.rows for found in written] == [3, 3]


async def test_a_recreated_topic_begins_a_new_chain(world: SinkEnvironment) -> None:
    await write(world, 0, 1)
    again = partition(world.store, topic_id="second", max_rows=1)
    assert await again.open() is None
    await again.process(records(0))
    await archived(again, 1)
    await again.close()
    assert await world.lake() == {("first", 0): [0, 1], ("second", 0): [0]}


async def test_a_name_can_be_written_once(world: SinkEnvironment) -> None:
    assert await world.store.put("x/1", b"first", {})
    assert not await world.store.put("x/1", b"second", {})
    assert await world.store.get("x/1") == b"first"
    assert await world.store.stat("x/2") is None
    with pytest.raises(SinkRefusedError):
        await world.store.get("x/2")


async def test_racing_puts_of_one_name_have_one_winner(world: SinkEnvironment) -> None:
    stores = [world.second_store() for _ in range(4)]
    for number in range(5):
        puts = [store.put(f"race/{number}", b"%d" % n, {}) for n, store in enumerate(stores * 2)]
        assert (await asyncio.gather(*puts)).count(True) == 1


async def test_names_come_in_order_and_in_pages(world: SinkEnvironment) -> None:
    for name in ("a/2", "a/10", "a/1", "b/1"):
        await world.store.put(name, b"", {})
    assert await world.store.names("a/") == ["a/1", "a/10", "a/2"]
    assert await world.store.names("a/", after="a/1", limit=1) == ["a/10"]
    assert await world.store.names("a/", after="a/2") == []
    assert await world.store.children("") == ["a", "b"]


@pytest.mark.parametrize("seed", range(3))
async def test_writers_that_cut_differently_write_one_chain(world: SinkEnvironment, seed: int) -> None:
    chance = random.Random(seed)
    log = sorted(chance.sample(range(400), 250))
    last = log[-1] + 1

    async def writer(rows: int, store: Any) -> None:
        one = partition(store, max_rows=rows, max_age_ms=20)
        position = await one.open() or 0
        taken = [offset for offset in log if offset >= position]
        while taken:
            size = chance.randint(1, 40)
            await one.process(records(*taken[:size]))
            taken = taken[size:]
            await asyncio.sleep(chance.random() / 50)
        await archived(one, last)
        await one.close()

    await asyncio.gather(*(writer(rows, world.second_store()) for rows in (7, 11, 64)))
    assert await world.lake() == {("first", 0): log}


async def test_a_zombie_cannot_append_to_the_chain_of_its_successor(world: SinkEnvironment) -> None:
    zombie = partition(world.store, max_rows=3)
    await zombie.open()
    await zombie.process(records(0, 1))  # then it is frozen with two buffered records
    await write(world, 0, 1, 2, 3, 4, rows=5)
    await zombie.process(records(2, 3, 4, 5))
    await archived(zombie, 6)
    await zombie.close()
    assert await world.lake() == {("first", 0): [0, 1, 2, 3, 4, 5]}


async def test_a_chain_with_an_object_of_another_origin_stops_the_writer(world: SinkEnvironment) -> None:
    deaths = FailureRecorder()
    one = partition(world.store, deaths=deaths, max_rows=1)
    await one.open()
    [first] = await write(world, 0)
    strange = chain.metadata(first) | {
        "previous-sha256": "0" * 64,
        "previous-last-offset": "0",
        "first-offset": "1",
        "last-offset": "1",
    }
    await world.store.put(chain.name(chain_key(), 1), b"strange", strange)
    await one.process(records(0, 1))
    await until(lambda: deaths.causes)
    assert "tampered" in str(deaths.causes[0])
    await one.close()


async def test_the_newest_of_many_objects_is_found_with_few_requests() -> None:
    async with memory_world() as world:
        for start in range(0, 30_000, 3):
            last = start + 2
            found = LakeObject(
                "", TOPIC, 0, start, last, 1, 0, f"{start:x}", start - 1, f"{start - 3:x}" if start else ""
            )
            await world.store.put(chain.name(chain_key(), start), b"", chain.metadata(found))
        asked = []
        names = world.store.names

        async def counting(*args: Any, **kwargs: Any) -> list[str]:
            asked.append(args)
            return await names(*args, **kwargs)

        world.store.names = counting  # type: ignore[method-assign]
        newest = await chain.newest(world.store, chain_key())
        assert newest is not None
        assert newest.last_offset == 29_999
        assert len(asked) < 40


# the warehouse


async def test_announced_objects_are_loaded_once(world: SinkEnvironment) -> None:
    loader = world.loader()
    async with Running(loader):
        for found in await write(world, 0, 1, 4, rows=3) * 2:
            loader.on_announcement(found)
        for found in await write(world, 6, 7, 8):
            loader.on_announcement(found)
        await until(lambda: loader.is_loaded(chain_key(), 8))
    assert offsets(world.rows(LANDING)) == [0, 1, 4, 6, 7, 8]
    assert (await world.warehouse.ledger())[chain_key()].last_offset == 8


async def test_unannounced_objects_are_found_at_the_start(world: SinkEnvironment) -> None:
    await write(world, *range(5))
    await load_all(world.loader(), 4)
    assert offsets(world.rows(LANDING)) == [0, 1, 2, 3, 4]


async def test_unannounced_objects_are_found_by_the_next_sweep(world: SinkEnvironment) -> None:
    loader = world.loader(sweep_interval_ms=50)
    async with Running(loader):
        await write(world, 0)
        await until(lambda: loader.is_loaded(chain_key(), 0))
        await write(world, 1)
        await until(lambda: loader.is_loaded(chain_key(), 1))
    assert offsets(world.rows(LANDING)) == [0, 1]


async def test_a_lost_announcement_is_detected_by_the_next_one(world: SinkEnvironment) -> None:
    loader = world.loader()
    async with Running(loader):
        [first] = await write(world, 0)
        loader.on_announcement(first)
        await until(lambda: loader.is_loaded(chain_key(), 0))
        await write(world, 1, 2)
        [late] = await write(world, 3)
        loader.on_announcement(late)
        await until(lambda: loader.is_loaded(chain_key(), 3))
    assert offsets(world.rows(LANDING)) == [0, 1, 2, 3]


async def test_false_announcements_load_nothing_and_harm_nothing(world: SinkEnvironment) -> None:
    [first, second] = await write(world, 0, 1)
    loader = world.loader()
    lies = [
        LakeObject(first.object, TOPIC, 0, 0, 9, 1, 1, "ab", -1, ""),
        LakeObject(chain.name(chain_key(), 2), TOPIC, 0, 2, 5, 4, 1, "cd", 1, "00"),
        LakeObject("../etc/passwd", TOPIC, 0, 0, 0, 1, 1, "", -1, ""),
        LakeObject(f"unknown.topic/first/0/{0:020d}.ndjson.zst", "unknown.topic", 0, 0, 0, 1, 1, "", -1, ""),
    ]
    async with Running(loader):
        await until(lambda: loader.is_loaded(chain_key(), second.last_offset))
        for lie in lies:
            loader.on_announcement(lie)
        [third] = await write(world, 2)
        loader.on_announcement(third)
        await until(lambda: loader.is_loaded(chain_key(), 2))
    assert offsets(world.rows(LANDING)) == [0, 1, 2]


async def test_many_chains_are_loaded_together(world: SinkEnvironment) -> None:
    for topic in ("bank.alerts", "bank.velocity"):
        for number in range(3):
            await write(world, 0, 1, number=number, topic=topic)
    loader = world.loader()
    async with Running(loader):
        await until(
            lambda: all(
                loader.is_loaded(chain_key(n, t), 1) for n in range(3) for t in ("bank.alerts", "bank.velocity")
            )
        )
    assert offsets(world.rows("ALERTS")) == offsets(world.rows("VELOCITY")) == [0, 0, 0, 1, 1, 1]


async def test_loads_are_bounded_and_a_backlog_is_loaded_in_order(world: SinkEnvironment) -> None:
    await write(world, *range(25))
    loader = world.loader(max_objects=2)
    await load_all(loader, 24)
    assert offsets(world.rows(LANDING)) == list(range(25))


async def test_racing_loaders_load_everything_once(world: SinkEnvironment) -> None:
    for number in range(3):
        await write(world, *range(12), number=number)
    loaders = [
        Loader(warehouse, world.store, {TOPIC: LANDING}, world.loader(max_objects=5)._settings, fail=FailureRecorder())
        for warehouse in (world.second_warehouse(), world.second_warehouse())
    ]
    async with Running(loaders[0]), Running(loaders[1]):
        await until(lambda: all(loader.is_loaded(chain_key(n), 11) for loader in loaders for n in range(3)))
    assert offsets(world.rows(LANDING)) == sorted([*range(12)] * 3)


async def test_a_load_from_a_wrong_position_changes_nothing(world: SinkEnvironment) -> None:
    [first, second] = await write(world, 0, 1)
    await world.warehouse.begin([chain_key()])
    await world.warehouse.begin([chain_key()])
    with pytest.raises(LedgerConflictError):
        await world.warehouse.load([LoadStep(chain_key(), LedgerRow(0, first.object, first.sha256), [second], LANDING)])
    assert world.rows(LANDING) == []
    await world.warehouse.load([LoadStep(chain_key(), LedgerRow(), [first, second], LANDING)])
    with pytest.raises(LedgerConflictError):
        await world.warehouse.load([LoadStep(chain_key(), LedgerRow(), [first, second], LANDING)])
    assert offsets(world.rows(LANDING)) == [0, 1]
    assert await world.warehouse.ledger() == {chain_key(): LedgerRow(1, second.object, second.sha256)}


async def test_an_object_with_other_rows_than_announced_is_not_loaded(world: SinkEnvironment) -> None:
    [first] = await write(world, 0, 1, rows=2)
    wrong = LakeObject(first.object, TOPIC, 0, 0, 1, 3, first.bytes, first.sha256, -1, "")
    await world.warehouse.begin([chain_key()])
    with pytest.raises(SinkRefusedError):
        await world.warehouse.load([LoadStep(chain_key(), LedgerRow(), [wrong], LANDING)])
    assert world.rows(LANDING) == []
    assert await world.warehouse.ledger() == {chain_key(): LedgerRow()}


async def test_a_chain_that_cannot_be_loaded_does_not_stop_the_others(world: SinkEnvironment) -> None:
    [good] = await write(world, 0)
    bad = chain.metadata(good) | {"rows": "7"}
    await world.store.put(chain.name(chain_key(1), 0), b"no zstd at all", bad)
    for number in (2, 3):
        await write(world, 0, 1, number=number)
    loader = world.loader()
    async with Running(loader):
        await until(
            lambda: loader.is_loaded(chain_key(0), 0) and all(loader.is_loaded(chain_key(n), 1) for n in (2, 3))
        )
    assert not loader.is_loaded(chain_key(1), 0)
    assert offsets(world.rows(LANDING)) == [0, 0, 0, 1, 1]


async def test_objects_before_a_break_in_the_chain_are_loaded(
    world: SinkEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    *_, last = await write(world, 0, 1, 2)
    gap = {"first-offset": "3", "last-offset": "3", "previous-last-offset": "2", "previous-sha256": "0" * 64}
    await world.store.put(chain.name(chain_key(), 3), b"strange", chain.metadata(last) | gap)
    loader = world.loader(sweep_interval_ms=50)
    async with Running(loader):
        await until(lambda: "is broken after offset 2" in caplog.text)
    assert offsets(world.rows(LANDING)) == [0, 1, 2]


async def test_a_lake_that_does_not_match_the_ledger_is_noticed(
    world: SinkEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    await write(world, 0, 1)
    await load_all(world.loader(), 1)
    other = replace(world, store=world.empty_store())
    await write(other, 0)
    await write(other, 1, 2, 3, rows=3)
    async with Running(other.loader()):
        await until(lambda: "which is missing or different in the lake" in caplog.text)
    assert offsets(world.rows(LANDING)) == [0, 1]
