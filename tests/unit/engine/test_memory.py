"""State in memory answers like state in RocksDB."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.memory import InMemoryKeyValueStore

keys = st.binary(min_size=0, max_size=10).map(lambda raw: raw.replace(b"\x05", b"\x00\x00\x00\x00\x00\x00\x00\x01"))
bounds = st.tuples(st.integers(250, 262), st.sampled_from([b"", b"\x05"]))
"""Where a scan begins or ends: with an id, or among the keys of one."""
operations = st.lists(st.tuples(keys, st.none() | st.binary(max_size=2), st.booleans()), max_size=60)


@pytest.fixture(autouse=True, scope="module", params=[0, 1_000])
def sweeping_at(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is gone is swept out at once, and hardly ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.engine.memory.SWEEP_AT", request.param)
        yield


@given(operations, keys, st.none() | keys)
def test_any_writes_are_found_again_in_order(
    written: list[tuple[bytes, bytes | None, bool]], start: bytes, end: bytes | None
) -> None:
    store, plain = InMemoryKeyValueStore(), dict[bytes, bytes]()
    for key, value, looks in written:
        store.write([("t", key, value, True)])
        if value is None:
            plain.pop(key, None)
        else:
            plain[key] = value
        assert store.get("t", key) == value
        if looks:
            assert list(store.scan("t")) == sorted(plain.items())
    assert list(store.scan("t")) == sorted(plain.items())
    expected = [(key, value) for key, value in sorted(plain.items()) if start <= key and (end is None or key < end)]
    assert list(store.scan("t", start, end)) == expected


@given(st.lists(st.integers(250, 262), max_size=30), bounds, bounds)
def test_a_scan_of_neighbouring_ids_finds_exactly_the_keys_between(
    ids: list[int], start: tuple[int, bytes], end: tuple[int, bytes]
) -> None:
    store = InMemoryKeyValueStore()
    keys = [id_bytes(one) + bytes([position]) for position, one in enumerate(ids)]
    store.write([("t", key, b"", True) for key in keys])
    first, last = (id_bytes(one) + rest for one, rest in (start, end))
    assert [key for key, _ in store.scan("t", first, last)] == sorted(key for key in keys if first <= key < last)


def id_bytes(number: int) -> bytes:
    """The first eight bytes of a key, as most tables have them."""
    return number.to_bytes(8, "big")


def test_the_end_of_a_scan_is_a_key_and_not_a_number() -> None:
    store, ids = InMemoryKeyValueStore(), [id_bytes(256), id_bytes(257), id_bytes(258)]
    store.write([("t", key, b"", True) for key in ids])
    assert [key for key, _ in store.scan("t", ids[0], b"\x01\x01")] == ids


def test_a_scan_within_one_id_begins_and_ends_where_it_is_told_to() -> None:
    store = InMemoryKeyValueStore()
    one, other = id_bytes(7), id_bytes(8)
    store.write([("t", key, b"", True) for key in (*(one + bytes([n]) for n in range(6)), other)])
    assert [key for key, _ in store.scan("t", one + b"\x01", one + b"\x04")] == [one + bytes([n]) for n in (1, 2, 3)]


def test_keys_that_are_gone_do_not_stay_in_memory_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.memory.SWEEP_AT", 10)
    store, kept = InMemoryKeyValueStore(), id_bytes(0)
    store.write([("t", kept, b"", True)])
    for number in range(1, 100):
        store.write([("t", id_bytes(number), b"", True)])
        assert [key for key, _ in store.scan("t")] == [kept, id_bytes(number)]
        store.write([("t", id_bytes(number), None, True)])
    assert [key for key, _ in store.scan("t")] == [kept]
    assert sum(map(len, store.tables["t"].buckets.values())) <= 1 + 10 + 1
