"""Tests the local store: bulk loads, deletions, and its files."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rocksdict import Cache, Options, Rdict

from app.engine import store as stores
from app.engine.store import StateError, Store


@dataclass(frozen=True)
class LogRecord:
    key: bytes
    value: bytes | None


@dataclass
class Slice:
    """Part of a changelog, as `ChangelogReader` returns it. Its end is known after the iteration."""

    records: list[LogRecord]
    end: int
    iterated: bool = False

    def __iter__(self) -> Iterator[LogRecord]:
        yield from self.records
        self.iterated = True

    @property
    def next(self) -> int:
        assert self.iterated
        return self.end


@pytest.fixture
def cache() -> Cache:
    return Cache(1 << 20)


def test_a_bulk_load_has_the_last_values_of_the_changelog(tmp_path: Path, cache: Cache) -> None:
    store = Store(tmp_path / "0", block_cache=cache, bulk=True)
    first = [LogRecord(b"a", b"1"), LogRecord(b"b", b"1"), LogRecord(b"a", b"2"), LogRecord(b"c", b"1")]
    assert store.load("left", Slice(first, 7)) == 4
    assert store.load("left", Slice([LogRecord(b"b", None), LogRecord(b"d", b"1")], 12)) == 2
    assert store.load("right", Slice([LogRecord(b"a", b"other")], 3)) == 1
    store.close()
    store = Store(tmp_path / "0", block_cache=cache)
    assert list(store.scan("left")) == [(b"a", b"2"), (b"c", b"1"), (b"d", b"1")]
    assert list(store.scan("right")) == [(b"a", b"other")]
    assert (store.changelog_offset("left"), store.changelog_offset("right")) == (12, 3)
    store.close()


def test_a_slice_of_markers_only_moves_the_offset(tmp_path: Path, cache: Cache) -> None:
    store = Store(tmp_path / "0", block_cache=cache)
    assert store.load("left", Slice([], 40)) == 0
    assert store.changelog_offset("left") == 40
    store.close()


def test_a_bulk_load_of_many_files_is_merged_before_the_store_is_used(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BULK_BUFFER_BYTES", 64 << 10)
    store = Store(tmp_path / "0", block_cache=cache, bulk=True)
    for number in range(40):
        records = [LogRecord(b"%d-%d" % (at, number), bytes(1000)) for at in range(100)]
        store.load("left", Slice(records, 100 * number + 100))
    store.flush()
    assert files(store) > 2 * stores.MAX_LOADED_FILES
    store.close()
    store = Store(tmp_path / "0", block_cache=cache)
    assert files(store) <= stores.MAX_LOADED_FILES
    assert sum(1 for _ in store.scan("left")) == 4000
    store.close()


def files(store: Store) -> int:
    """The number of files in level 0, all of which every read must search."""
    return store._db.property_int_value("rocksdb.num-files-at-level0") or 0


def test_a_store_that_is_opened_again_uses_the_shared_block_cache(tmp_path: Path, cache: Cache) -> None:
    store = Store(tmp_path / "0", block_cache=cache)
    store.write([("left", b"%d" % number, bytes(100)) for number in range(1000)], {})
    store.close()
    store = Store(tmp_path / "0", block_cache=cache)
    before = cache.get_usage()
    assert store.get("left", b"7") == bytes(100)
    assert cache.get_usage() > before
    store.close()


def _flip(path: Path, count: int) -> None:
    """Flips bits in the middle of every sorted file: in its data, not in the index at its end, which is read when it is opened."""
    files = sorted(path.glob("*.sst"))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        for number in range(count):
            content[len(content) // 4 + 97 * number] ^= 0xFF
        file.write_bytes(content)


def test_damage_is_an_error_and_never_an_early_end(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "0"
    store = Store(path, block_cache=cache)
    store.write([("left", b"%06d" % number, random.randbytes(40)) for number in range(20_000)], {"left": 20_000})
    store.close()
    _flip(path, 20)
    store = Store(path, block_cache=cache)
    with pytest.raises(StateError, match=r"is damaged .* rebuilds it from the changelogs"):
        list(store.scan("left"))
    with pytest.raises(StateError, match="is damaged"):
        [store.get("left", b"%06d" % number) for number in range(20_000)]
    with pytest.raises(StateError, match="was found damaged while it was in use"):
        Store(path, block_cache=cache)
    del store
    Store.destroy(path)
    Store(path, block_cache=cache).close()


def test_a_store_has_the_keys_that_it_has_always_had(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other keys, a new version of the worker would find nothing in the stores of the one before."""
    monkeypatch.setattr("time.time", lambda: 1.5)
    path = tmp_path / "not" / "there" / "0"
    store = Store(path, block_cache=cache)
    assert (store.bulk, store.identity, store.changelog_offset("left")) == (False, None, 0)
    store.set_identity(b"x")
    store.write([("left", b"a", b"1")], {"left": 7})
    store.load("right", Slice([LogRecord(b"b", b"2")], 8))
    store.close()
    raw = Rdict(str(path), Options(raw_mode=True))
    assert dict(raw.items()) == {
        b"tleft\0a": b"1",
        b"tright\0b": b"2",
        b"mchangelog-offset:left": (7).to_bytes(8, "big"),
        b"mchangelog-offset:right": (8).to_bytes(8, "big"),
        b"midentity": b"x",
        b"mcurrent-at": (1_500).to_bytes(8, "big"),
    }
    raw.close()


def test_a_store_that_is_not_there_can_be_destroyed(tmp_path: Path) -> None:
    Store.destroy(tmp_path / "0")
    assert not list(tmp_path.iterdir())


def test_a_store_records_since_when_it_may_have_missed_deletions(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.time", lambda: now)
    store = Store(tmp_path / "0", block_cache=cache)
    assert store.caught_up_at == 0
    store.set_identity(b"x")
    assert store.caught_up_at == now
    now += stores.STAMP_EVERY_S / 2
    store.write([("left", b"a", b"1")], {"left": 1})
    assert store.caught_up_at == 1_000
    now += stores.STAMP_EVERY_S
    store.write([("left", b"a", b"2")], {"left": 2})
    assert store.caught_up_at == now
    now += 1
    store.load("left", Slice([LogRecord(b"b", b"1")], 3))
    assert store.caught_up_at == now - 1, "what is replayed may still be far from the end"
    store.set_caught_up()
    assert store.caught_up_at == now
    store.close()
