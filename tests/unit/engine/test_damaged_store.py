"""Tests that a store with damaged files raises an error and never returns wrong data, and is restored at the next opening."""

import gc
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rocksdict import Cache

from app.engine.exits import RETRY, exit_code
from app.engine.restore import _open_store
from app.engine.store import StateError, Store
from tests.faults.instruments import damage
from tests.faults.instruments.small_disk import small_disk, unavailable

ENTRIES = 3_000
TABLE, CHANGELOGS = "t", b"changelogs"


def opened(path: Path) -> Store:
    """Opens the store as a worker does at its start."""
    return _open_store(path, CHANGELOGS, Cache(1 << 20))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with entries."""
    chance = random.Random(1)
    place = tmp_path / "store"
    store = opened(place)
    for begin in range(0, ENTRIES, 1_000):
        changes = [(TABLE, b"%06d" % n, chance.randbytes(100)) for n in range(begin, begin + 1_000)]
        store.write(changes, {TABLE: begin + 1_000})
    store.close()
    return place


def in_data(path: Path) -> None:
    """Flips bits in the first half of the file with the entries, because index and footer are checked when it is opened."""
    [file] = path.glob("*.sst")
    content, chance = bytearray(file.read_bytes()), random.Random(2)
    for _ in range(8):
        content[chance.randrange(len(content) // 2)] ^= 0x10
    file.write_bytes(content)


def get_all(store: Store) -> None:
    for number in range(ENTRIES):
        assert store.get(TABLE, b"%06d" % number) is not None


def scan_all(store: Store) -> None:
    assert sum(1 for _ in store.scan(TABLE)) == ENTRIES


def life(work: Callable[[], object]) -> int:
    """The exit code of a worker that runs this. Its store is closed with it."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is, a worker ends with it
        code = exit_code(error)
    else:
        code = 0
    gc.collect()
    return code


@pytest.mark.parametrize("read", [get_all, scan_all])
def test_a_damaged_block_ends_the_worker_and_the_next_one_starts_with_an_empty_store(
    path: Path, read: Callable[[Store], None]
) -> None:
    in_data(path)
    assert life(lambda: read(opened(path))) == RETRY
    assert read_all(path) == {}


def test_a_damaged_index_is_not_reported_as_a_lock(path: Path) -> None:
    [file] = path.glob("*.sst")
    content = bytearray(file.read_bytes())
    for place in range(len(content) - 3_000, len(content) - 2_000, 50):
        content[place] ^= 0x10
    file.write_bytes(content)
    assert read_all(path) == {}


@pytest.mark.parametrize("read", [get_all, scan_all])
def test_an_undamaged_store_is_read_to_its_end(path: Path, read: Callable[[Store], None]) -> None:
    store = opened(path)
    read(store)
    store.close()


@pytest.mark.parametrize("kind", damage.KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_no_damage_hides_an_entry_silently(path: Path, kind: damage.Damage, seed: int) -> None:
    """Either there is an error, or the store is unchanged, or its offset shows that it is empty."""
    before = read_all(path)
    kind(path, random.Random(seed))
    with suppress(StateError):
        assert read_all(path) in (before, {})
    assert read_all(path) in (before, {})


def read_all(path: Path) -> dict[bytes, bytes]:
    """The entries. Their number must equal the changelog offset."""
    store = opened(path)
    try:
        found = dict(store.scan(TABLE))
        assert len(found) == store.changelog_offset(TABLE)
        return found
    finally:
        store.close()


def test_a_store_that_another_process_has_open_is_left_alone(path: Path) -> None:
    store = opened(path)
    with pytest.raises(StateError, match="is in use by another process"):
        opened(path)
    get_all(store)
    store.close()


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "it can")
def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with small_disk(place, 4) as disk:

        def write() -> None:
            store = opened(place / "store")
            store.write([(TABLE, b"%d" % n, bytes(1_000)) for n in range(1_000)], {TABLE: 1_000})
            disk.fill()
            store.close()

        assert life(write) == RETRY
        assert life(lambda: opened(place / "store")) == RETRY
        disk.free()
        store = opened(place / "store")
        assert store.changelog_offset(TABLE) == 0
        store.close()
