"""A derived table: what a restore leaves in the store is moved once, in steps, and a kill between two of them changes nothing."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Cache

from app.engine import derivation
from app.engine.derivation import TOMBSTONE, Derived, run_derivation
from app.engine.store import ReadOnlyStore, StateError, Store, UnreadableEntryError
from tests.unit.engine.test_store import LogRecord, Slice


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", block_cache=Cache(1 << 20))
    yield store
    store.close()


def sums(store: ReadOnlyStore) -> Iterator[Derived]:
    """Adds each number to the sum of the first byte of its key; a deletion starts the sum anew."""
    for done, (key, value) in enumerate(store.scan("numbers"), 1):
        before = 0 if value == TOMBSTONE else int(store.get("sums", key[:1]) or b"0")
        total = before + int(value or b"0")
        yield Derived([("sums", key[:1], b"%d" % total), ("numbers", key, None)], done / 4)


RECORDS = [LogRecord(b"a1", b"1"), LogRecord(b"a2", b"2"), LogRecord(b"b1", b"5"), LogRecord(b"b2", None)]


def test_a_deletion_is_kept_until_the_derived_table_knows_it(store: Store) -> None:
    assert store.load("numbers", Slice(RECORDS, 9), TOMBSTONE) == 4
    assert dict(store.scan("numbers"))[b"b2"] == TOMBSTONE
    asyncio.run(run_derivation("group/0", store, sums))
    assert (dict(store.scan("numbers")), dict(store.scan("sums"))) == ({}, {b"a": b"3", b"b": b"0"})
    assert store.changelog_offset("numbers") == 9


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_it_goes_on_after_a_kill_between_two_steps(store: Store, steps: int) -> None:
    class KilledError(Exception):
        pass

    def killed(store: ReadOnlyStore) -> Iterator[Derived]:
        for number, step in enumerate(sums(store)):
            if number == steps:
                raise KilledError
            yield step

    store.load("numbers", Slice(RECORDS, 9), TOMBSTONE)
    with pytest.raises(KilledError):
        asyncio.run(run_derivation("group/0", store, killed))
    assert len(list(store.scan("numbers"))) == 4 - steps
    asyncio.run(run_derivation("group/0", store, sums))
    assert dict(store.scan("sums")) == {b"a": b"3", b"b": b"0"}


def test_a_store_with_an_unreadable_entry_is_rebuilt_by_the_next_start(tmp_path: Path) -> None:
    def damaged(_: ReadOnlyStore) -> Iterator[Derived]:
        raise UnreadableEntryError("an entry cannot be read")
        yield

    store = Store(tmp_path / "0", block_cache=Cache(1 << 20))
    with pytest.raises(UnreadableEntryError):
        asyncio.run(run_derivation("group/0", store, damaged))
    store.close()
    with pytest.raises(StateError, match="was found damaged while it was in use"):
        Store(tmp_path / "0", block_cache=Cache(1 << 20))


def test_others_run_between_two_steps_and_a_long_one_says_how_long_it_will_take(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(derivation, "PROGRESS_S", 0)
    store.load("numbers", Slice(RECORDS, 9), TOMBSTONE)
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(len(list(store.scan("numbers"))))
            await asyncio.sleep(0)

    async def both() -> None:
        beside = asyncio.create_task(other())
        await run_derivation("group/0", store, sums)
        beside.cancel()

    with caplog.at_level(logging.INFO, derivation.__name__):
        asyncio.run(both())
    assert turns[:3] == [3, 2, 1]
    assert "deriving the local state of group/0: 50 %, about 0 s left" in caplog.messages
    assert caplog.messages[-1] == "derived the local state of group/0 in 0 s"


def test_a_scan_from_the_end_stays_in_its_table_and_its_bounds(store: Store) -> None:
    assert list(store.scan_back("numbers", b"", b"\xff")) == []
    store.write([("letters", b"z", b""), ("numbers", b"b", b""), ("numbers", b"a", b""), ("sums", b"x", b"")], {})
    assert list(store.scan_back("numbers", b"", b"\xff")) == [(b"b", b""), (b"a", b"")]
    assert list(store.scan_back("numbers", b"a", b"b")) == [(b"a", b"")]
    assert list(store.scan_back("missing", b"", b"\xff")) == []
