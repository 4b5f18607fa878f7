"""Tests the search for the object with an offset, and the findings of a trace for modified objects."""

import random

import pytest

from app.proof.trace.lake import LakeReader
from app.proof.trace.report import Check
from sinks.base import ChainKey, LakeObject, LedgerRow
from sinks.chain import find_containing, metadata, name
from sinks.memory import InMemoryObjectStore
from tests.support.warehouse.sinks import TOPIC, TOPIC_ID, chain_key, memory_world, write


class Counting(InMemoryObjectStore):
    """Counts the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def names(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        self.asked += 1
        return await super().names(prefix, after=after, limit=limit)


async def chain_of(lengths: list[int]) -> tuple[Counting, list[LakeObject]]:
    """A chain of objects with these numbers of offsets. Their content is not read."""
    store, made, last, sha256 = Counting(), [], -1, ""
    for number, length in enumerate(lengths):
        found = LakeObject(
            object=name(chain_key(), last + 1), topic=TOPIC, partition=0, first_offset=last + 1, last_offset=last + length,
            rows=length, bytes=1, sha256=f"{number:064d}", previous_last_offset=last, previous_sha256=sha256,
        )  # fmt: skip
        await store.put(found.object, b"x", metadata(found))
        made.append(found)
        last, sha256 = found.last_offset, found.sha256
    return store, made


@pytest.mark.parametrize(
    ("lengths", "most"),
    [
        ([1] * 3_500, 3),
        ([7] * 1_500, 3),
        ([50_000] * 12, 10),
        ([1_000_000], 8),
        ([1] * 1_200 + [400_000] + [1] * 5, 12),
    ],
    ids=["one each", "seven each", "full objects", "one object", "mixed"],
)
async def test_the_object_with_an_offset_is_found_with_few_requests(lengths: list[int], most: int) -> None:
    store, made = await chain_of(lengths)
    end, chance = made[-1].last_offset, random.Random(7)
    for offset in {0, 1, end, end - 1, *(chance.randint(0, end) for _ in range(60))} & set(range(end + 1)):
        store.asked = 0
        found = await find_containing(store, chain_key(), offset)
        assert found is not None
        assert found.previous_last_offset < offset <= found.last_offset
        assert store.asked <= most
    assert await find_containing(store, chain_key(), end + 1) is None
    assert await find_containing(store, ChainKey(TOPIC, TOPIC_ID, 5), 3) is None


def verdicts(checks: tuple[Check, ...]) -> list[str]:
    return [check.verdict for check in checks]


async def test_a_record_is_found_by_object_and_line_and_an_unmodified_object_passes() -> None:
    async with memory_world() as world:
        await write(world, 0, 1, 2, 3, 4, 5, rows=2)
        found = await LakeReader(world.store).find(chain_key(), 3)
    assert found is not None
    assert (found.number, found.of, found.value) == (2, 2, b'{"n":3}')
    assert verdicts(found.checks) == ["holds", "holds", "holds"]


async def test_the_newest_object_has_no_successor_and_a_hole_has_no_line() -> None:
    async with memory_world() as world:
        await write(world, 0, 1, 2, 9, rows=2)
        lake = LakeReader(world.store)
        newest, hole = await lake.find(chain_key(), 9), await lake.find(chain_key(), 5)
    assert newest is not None
    assert verdicts(newest.checks)[-1] == "noted"
    assert hole is not None
    assert hole.line is None
    assert "no line of the object has offset 5" in [check.what for check in hole.checks]


async def changed(edit: dict[str, str], body: bytes | None = None) -> tuple[Check, ...]:
    """The findings for the middle one of three objects after its metadata or its body was modified."""
    async with memory_world() as world:
        objects = await write(world, 0, 1, 2, 3, 4, 5, rows=2)
        assert isinstance(world.store, InMemoryObjectStore)
        where = objects[1].object
        kept, described = world.store._objects[where]
        world.store._objects[where] = (kept if body is None else body, described | edit)
        found = await LakeReader(world.store).find(chain_key(), 3)
    assert found is not None
    return found.checks


@pytest.mark.parametrize(
    ("edit", "body", "told"),
    [
        ({}, b"not compressed", "its content cannot be read"),
        ({"sha256": "0" * 64}, None, "which is not this object"),
        ({"rows": "3"}, None, "it has 2 records, but its metadata says 3"),
        ({"previous-sha256": "0" * 64}, None, "which is not the object before it"),
        ({"first-offset": "9", "last-offset": "3"}, None, "has inconsistent metadata"),
    ],
)
async def test_a_modified_object_differs(edit: dict[str, str], body: bytes | None, told: str) -> None:
    checks = await changed(edit, body)
    assert any(told in check.what for check in checks if check.verdict == "differs"), checks


@pytest.mark.parametrize(
    ("edit", "verdict"),
    [
        ({}, "holds"),
        ({"last_offset": 4}, "differs"),
        ({"last_sha256": "0" * 64}, "differs"),
        ({"last_object": f"{TOPIC}/other/0/00000000000000000004.ndjson.zst"}, "differs"),
        ({"last_object": f"{TOPIC}/{TOPIC_ID}/0/00000000000000000008.ndjson.zst"}, "differs"),
        ({"last_object": "nonsense"}, "differs"),
        ({"last_object": ""}, "differs"),
    ],
)
async def test_a_ledger_row_is_compared_with_its_last_object(edit: dict[str, str], verdict: str) -> None:
    async with memory_world() as world:
        last = (await write(world, 0, 1, 2, 3, 4, 5, rows=2))[-1]
        words: dict[str, object] = {
            "last_offset": last.last_offset,
            "last_object": last.object,
            "last_sha256": last.sha256,
        }
        checks = await LakeReader(world.store).ledger(chain_key(), LedgerRow(**(words | edit)))  # type: ignore[arg-type]
    assert verdicts(tuple(checks)) == [verdict]
