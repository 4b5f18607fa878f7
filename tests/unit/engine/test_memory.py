"""Tests that state in memory returns the same results as state in RocksDB."""

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.keys import partition_for
from app.engine.memory import EmittedRecord, InMemoryKeyValueStore, MemoryPartition
from app.engine.partition_group import PartitionGroup
from app.engine.unit_of_work import InputRecord, UnitOfWork
from tests.support.bank.cdc import Record

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
        store.write([("t", key, value)])
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


def test_a_scan_of_neighbouring_ids_finds_exactly_the_keys_between() -> None:
    """The ids are on both sides of a byte's end; scans begin and end with an id, or among the keys of one."""
    ids = range(253, 259)
    keys = [id_bytes(one) + rest for one in ids for rest in (b"", b"\x01", b"\x09")]
    store = InMemoryKeyValueStore()
    store.write([("t", key, b"") for key in reversed(keys)])
    for start, end in product([id_bytes(one) + rest for one in ids for rest in (b"", b"\x05")], repeat=2):
        assert [key for key, _ in store.scan("t", start, end)] == [key for key in keys if start <= key < end]


def id_bytes(number: int) -> bytes:
    """The first eight bytes of a key, as most tables have them."""
    return number.to_bytes(8, "big")


def test_the_end_of_a_scan_is_a_key_and_not_a_number() -> None:
    store, ids = InMemoryKeyValueStore(), [id_bytes(256), id_bytes(257), id_bytes(258)]
    store.write([("t", key, b"") for key in ids])
    assert [key for key, _ in store.scan("t", ids[0], b"\x01\x01")] == ids


def test_a_scan_within_one_id_begins_and_ends_where_it_is_told_to() -> None:
    store = InMemoryKeyValueStore()
    one, other = id_bytes(7), id_bytes(8)
    store.write([("t", key, b"") for key in (*(one + bytes([n]) for n in range(6)), other)])
    assert [key for key, _ in store.scan("t", one + b"\x01", one + b"\x04")] == [one + bytes([n]) for n in (1, 2, 3)]


def test_keys_that_are_gone_do_not_stay_in_memory_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.memory.SWEEP_AT", 10)
    store, kept = InMemoryKeyValueStore(), id_bytes(0)
    store.write([("t", kept, b"")])
    for number in range(1, 100):
        store.write([("t", id_bytes(number), b"")])
        assert [key for key, _ in store.scan("t")] == [kept, id_bytes(number)]
        store.write([("t", id_bytes(number), None)])
    assert [key for key, _ in store.scan("t")] == [kept]
    assert sum(map(len, store.tables["t"].buckets.values())) <= 1 + 10 + 1


GROUP = PartitionGroup("app", "by-key", ("in",), (), 4, lambda _: 1_000, "letters")


def forward(record: InputRecord, unit: UnitOfWork) -> None:
    """Sends the time of the unit of work, by the record's key; a record with the value "end" to a topic of its own."""
    unit.emit("last" if record.value == b"end" else "out", key=record.key, value=b"%d" % unit.now_us)


@pytest.mark.parametrize(("now_us", "told"), [(None, [7_000_000, 8_000_000]), (5, [5, 5])])
def test_what_a_partition_in_memory_sends_has_the_time_of_its_record(now_us: int | None, told: list[int]) -> None:
    records = [Record("in", b"v", b"foobar", 0, 0, 7_000), Record("in", b"v", b"abc", 0, 1, 8_000)]
    sent = MemoryPartition(GROUP, 0).process(records, {"in": forward}, now_us=now_us)
    assert sent == [
        EmittedRecord("out", partition_for(b"foobar", 1_000), b"foobar", b"%d" % told[0], 7_000),
        EmittedRecord("out", partition_for(b"abc", 1_000), b"abc", b"%d" % told[1], 8_000),
    ]


def test_a_partition_in_memory_goes_on_behind_the_record_that_it_stopped_at() -> None:
    partition = MemoryPartition(GROUP, 0)
    records = iter([Record("in", value, b"k", 0, number) for number, value in enumerate((b"v", b"end", b"v", b"v"))])
    first = partition.process(records, {"in": forward}, until="last")
    assert [it.topic for it in first] == ["out", "last"]
    assert [it.topic for it in partition.process(records, {"in": forward}, until="last")] == ["out", "out"]


def test_what_a_partition_in_memory_sends_by_the_clock_has_the_time_of_the_clock() -> None:
    sent = MemoryPartition(GROUP, 0).punctuate(
        lambda unit: unit.emit("out", key=None, value=b"%d" % unit.now_us), now_us=1_700_000_000_123_456
    )
    assert sent == [EmittedRecord("out", 0, None, b"1700000000123456", 1_700_000_000_123)]
