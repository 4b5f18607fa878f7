"""Tests that state in memory returns the same results as state in RocksDB."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.memory import InMemoryKeyValueStore

keys = st.binary(min_size=0, max_size=10).map(lambda raw: raw.replace(b"\x05", b"\x00\x00\x00\x00\x00\x00\x00\x01"))
operations = st.lists(st.tuples(keys, st.none() | st.binary(max_size=2), st.booleans()), max_size=60)


@pytest.fixture(autouse=True, scope="module", params=[0, 1_000])
def sweeping_at(request: pytest.FixtureRequest) -> Iterator[None]:
    """Removes deleted entries at once, or almost never."""
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


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(0, 300))
def test_a_scan_of_one_id_finds_exactly_its_keys(ids: list[int], wanted: int) -> None:
    store = InMemoryKeyValueStore()
    for position, one in enumerate(ids):
        store.write([("t", one.to_bytes(8, "big") + bytes([position]), b"", True)])
    found = [key for key, _ in store.scan("t", wanted.to_bytes(8, "big"), (wanted + 1).to_bytes(8, "big"))]
    assert found == [wanted.to_bytes(8, "big") + bytes([n]) for n, one in enumerate(ids) if one == wanted]


def test_a_scan_within_one_id_begins_and_ends_where_it_is_told_to() -> None:
    store = InMemoryKeyValueStore()
    one, other = (7).to_bytes(8, "big"), (8).to_bytes(8, "big")
    store.write([("t", key, b"", True) for key in (*(one + bytes([n]) for n in range(6)), other)])
    assert [key for key, _ in store.scan("t", one + b"\x01", one + b"\x04")] == [one + bytes([n]) for n in (1, 2, 3)]
