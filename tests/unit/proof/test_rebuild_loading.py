"""Tests loading a whole lake in memory: each object once, from the ledger on; each is audited; a broken one stops only its chain."""

from collections.abc import Sequence

import pytest

from app.config.settings import WarehouseSettings
from app.proof.rebuild.loading import load_all
from sinks.base import LakeObject, LoadStep, SinkUnavailableError
from sinks.memory import InMemoryObjectStore, InMemoryWarehouse
from tests.support.catalogue import CATALOGUE
from tests.support.warehouse.sinks import LANDING, chain_key, memory_world, offsets, write

SETTINGS = WarehouseSettings(load_interval_ms=0, max_objects=2)


async def test_everything_is_loaded_once_and_a_second_run_finds_nothing_to_do() -> None:
    told: list[tuple[int, int]] = []
    async with memory_world() as world:
        await write(world, 0, 1, 2, 3, rows=2)
        await write(world, 0, 7, 9, number=1)
        loaded = await load_all(
            world.warehouse, world.store, CATALOGUE.landing, SETTINGS, lambda done, total: told.append((done, total))
        )
        assert (loaded.objects, loaded.broken) == (5, {})
        assert told[-1] == (14, 14)
        assert offsets(world.rows(LANDING)) == [0, 0, 1, 2, 3, 7, 9]
        await write(world, 10, 11, number=1)
        again = await load_all(world.warehouse, world.store, CATALOGUE.landing, SETTINGS)
        assert again.objects == 2
        assert len(world.rows(LANDING)) == 9


async def test_a_modified_object_stops_its_chain_and_no_other() -> None:
    async with memory_world() as world:
        objects = await write(world, 0, 1, 2, 3, 4, 5)
        await write(world, 0, 1, 2, number=1)
        assert isinstance(world.store, InMemoryObjectStore)
        body, metadata = world.store._objects[objects[2].object]
        world.store._objects[objects[2].object] = (body + b"\0", metadata)
        loaded = await load_all(world.warehouse, world.store, CATALOGUE.landing, SETTINGS)
        assert list(loaded.broken) == [chain_key()]
        assert "is not the one that was written" in loaded.broken[chain_key()]
        assert sorted((row.partition, row.offset) for row in world.rows(LANDING)) == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (1, 2),
        ]
        world.store._objects[objects[2].object] = (body, metadata)
        assert (await load_all(world.warehouse, world.store, CATALOGUE.landing, SETTINGS)).broken == {}
        assert len(world.rows(LANDING)) == 9


async def test_an_empty_lake_is_rebuilt_at_once() -> None:
    async with memory_world() as world:
        assert (await load_all(world.warehouse, world.store, CATALOGUE.landing, SETTINGS)).objects == 0


class Away(InMemoryWarehouse):
    """A warehouse that does not respond."""

    async def load(self, _: Sequence[LoadStep]) -> None:
        raise SinkUnavailableError("the warehouse is away")


async def test_a_warehouse_that_stays_unavailable_ends_the_rebuild(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.loader.MAX_FAILURES", 2)
    async with memory_world() as world:
        written: list[LakeObject] = await write(world, 0, 1)
        assert written
        with pytest.raises(SinkUnavailableError, match="is away"):
            await load_all(Away(world.store), world.store, CATALOGUE.landing, SETTINGS)
