"""Tests the unit of work: its reads, its uncommitted effects, and the complete undo of a record."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rocksdict import Cache

from app.engine.batch_unit_of_work import BatchUnitOfWork
from app.engine.committed_state import CommittedState
from app.engine.dead_letters import dead_letter, encode_dead_letter
from app.engine.lru import LruDict
from app.engine.store import Store
from app.engine.table import Table
from app.errors import PoisonRecordError
from tests.support.bank.cdc import Record

NUMBERS: Table[bytes, int] = Table("numbers", bytes, lambda value: b"%d" % value, int)
OTHERS: Table[bytes, int] = Table("numbers2", bytes, lambda value: b"%d" % value, int)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", block_cache=Cache(1 << 20))
    yield store
    store.close()


def unit_over(store: Store) -> BatchUnitOfWork:
    return BatchUnitOfWork(
        partition=2,
        partitions=4,
        tables=frozenset({"numbers", "numbers2"}),
        store=store,
        cache=LruDict(10),
        partitions_of=lambda _: 4,
        dead_letter_topic="letters",
        now_us=1_700_000_000_000_000,
    )


def commit(unit: BatchUnitOfWork, store: Store) -> None:
    store.write(unit.changes(), {})


def test_a_unit_reads_its_own_writes_and_nothing_is_stored_before_commit(store: Store) -> None:
    unit = unit_over(store)
    unit.table(NUMBERS).put(b"a", 1)
    assert unit.table(NUMBERS).get(b"a") == 1
    assert unit_over(store).table(NUMBERS).get(b"a") is None
    commit(unit, store)
    assert unit_over(store).table(NUMBERS).get(b"a") == 1


def test_tables_whose_names_share_a_prefix_do_not_see_each_other(store: Store) -> None:
    unit = unit_over(store)
    unit.table(NUMBERS).put(b"2x", 1)
    unit.table(OTHERS).put(b"x", 2)
    commit(unit, store)
    fresh = unit_over(store)
    assert list(fresh.table(NUMBERS).scan()) == [(b"2x", 1)]
    assert list(fresh.table(OTHERS).scan()) == [(b"x", 2)]


def test_an_undeclared_table_is_refused_by_name(store: Store) -> None:
    with pytest.raises(KeyError, match="'missing' is not declared"):
        unit_over(store).table(Table("missing", bytes, bytes, bytes))


def test_undo_reverts_writes_deletes_emissions_and_the_cache(store: Store) -> None:
    seed = unit_over(store)
    seed.table(NUMBERS).put(b"kept", 7)
    commit(seed, store)
    unit = unit_over(store)
    unit.table(NUMBERS).put(b"first", 1)
    unit.emit("out", key=b"k", value=b"first")
    unit.cache["derived"] = object()
    unit.mark()
    list(unit.table(NUMBERS).scan())
    unit.table(NUMBERS).put(b"first", 2)
    unit.table(NUMBERS).put(b"second", 2)
    unit.table(NUMBERS).delete(b"kept")
    unit.emit("out", key=b"k", value=b"second")
    unit.undo()
    assert list(unit.table(NUMBERS).scan()) == [(b"first", 1), (b"kept", 7)]
    assert list(unit.records.values()) == [[(b"k", b"first")]]
    assert not unit.cache


def test_a_scan_of_a_unit_ends_where_it_is_told_to_among_its_own_writes_too(store: Store) -> None:
    seed = unit_over(store)
    for key in (b"a", b"c", b"e"):
        seed.table(NUMBERS).put(key, 1)
    commit(seed, store)
    view = unit_over(store).table(NUMBERS)
    for key in (b"b", b"d", b"f"):
        view.put(key, 2)
    assert list(view.scan(b"b", b"d")) == [(b"b", 2), (b"c", 1)]
    view.put(b"c", 2)
    assert list(view.scan(b"b")) == [(b"b", 2), (b"c", 2), (b"d", 2), (b"e", 1), (b"f", 2)]


def test_a_record_refused_before_it_wrote_anything_leaves_the_cache_alone(store: Store) -> None:
    unit = unit_over(store)
    unit.table(NUMBERS).put(b"of another record", 1)
    derived = unit.cache["derived"] = object()
    unit.mark()
    list(unit.table(NUMBERS).scan())
    unit.undo()
    assert unit.cache["derived"] is derived
    assert list(unit.table(NUMBERS).scan()) == [(b"of another record", 1)]


def test_every_write_is_a_change_in_encoded_form_or_not_and_the_last_of_a_key_counts(store: Store) -> None:
    unit = unit_over(store)
    view = unit.table(NUMBERS)
    view.put(b"a", 1)
    view.put_encoded(b"b", b"2")
    view.delete(b"c")
    view.put_encoded(b"d", b"3")
    view.delete_encoded(b"d")
    assert unit.changes() == [
        ("numbers", b"a", b"1"),
        ("numbers", b"b", b"2"),
        ("numbers", b"c", None),
        ("numbers", b"d", None),
    ]


def test_an_encoded_read_returns_the_written_bytes(store: Store) -> None:
    seed = unit_over(store)
    seed.table(NUMBERS).put(b"a", 1)
    commit(seed, store)
    view = unit_over(store).table(NUMBERS)
    assert (view.get_encoded(b"a"), view.get_encoded(b"b")) == (b"1", None)
    view.put_encoded(b"b", b"2")
    view.delete_encoded(b"a")
    assert (view.get_encoded(b"a"), view.get_encoded(b"b")) == (None, b"2")


def test_a_record_goes_to_the_partition_of_its_key_unless_one_is_given(store: Store) -> None:
    unit = unit_over(store)
    asked: list[str] = []

    def partitions_of(topic: str) -> int:
        asked.append(topic)
        return 1_000

    unit._partitions_of = partitions_of
    for key in (b"foobar", b"abc", b"foobar", None):
        unit.emit("out", key=key, value=key)
    unit.emit("out", key=b"foobar", value=None, partition=7)
    # By Kafka's own hash of the keys, see test_parts.py.
    foobar, abc = -790332482 & 0x7FFFFFFF, 479470107
    assert unit.records == {
        ("out", foobar % 1_000): [(b"foobar", b"foobar")] * 2,
        ("out", abc % 1_000): [(b"abc", b"abc")],
        ("out", 0): [(None, None)],
        ("out", 7): [(b"foobar", None)],
    }
    assert asked == ["out"], "a topic's partitions are counted once"


def test_a_dead_letter_is_emitted_and_undone_with_its_record(store: Store) -> None:
    unit = unit_over(store)
    record, error = Record("t", b"v", b"k", 3, 42), PoisonRecordError("what to do", reason="r", stage="s")
    unit.mark()
    unit.dead_letter(record, error)
    letter = dead_letter(record, error, 1_700_000_000_000_000)
    assert unit.dead_letters == [letter]
    assert {topic for topic, _ in unit.records} == {"letters"}
    assert list(unit.records.values()) == [[(b"k", encode_dead_letter(letter))]]
    unit.undo()
    assert unit.dead_letters == []
    assert unit.empty


def test_committed_entries_are_read_by_table_and_key(store: Store) -> None:
    seed = unit_over(store)
    for key, value in ((b"", 0), (b"a", 1), (b"b", 2), (b"c", 3)):
        seed.table(NUMBERS).put(key, value)
    commit(seed, store)
    committed = CommittedState(store, frozenset({"numbers"}), {"in": 7})
    assert (committed.get(NUMBERS, b"b"), committed.get(NUMBERS, b"x")) == (2, None)
    assert list(committed.scan(NUMBERS)) == [(b"", 0), (b"a", 1), (b"b", 2), (b"c", 3)]
    assert list(committed.scan(NUMBERS, b"b")) == [(b"b", 2), (b"c", 3)]
    assert list(committed.scan(NUMBERS, b"a", b"c")) == [(b"a", 1), (b"b", 2)]
    assert committed.positions == {"in": 7}
    with pytest.raises(KeyError, match="'numbers2' is not declared"):
        committed.get(OTHERS, b"a")
    with pytest.raises(KeyError, match="'numbers2' is not declared"):
        list(committed.scan(OTHERS))


def test_an_untouched_unit_is_empty(store: Store) -> None:
    unit = unit_over(store)
    assert unit.table(NUMBERS).get(b"x") is None
    assert unit.empty
    unit.emit("out", key=None, value=b"v")
    assert not unit.empty


keys = st.binary(min_size=1, max_size=2)
steps = st.lists(st.tuples(st.sampled_from(["put", "delete", "delete_encoded", "scan"]), keys, keys), max_size=25)


@given(before=st.dictionaries(keys, st.integers(0, 9)), steps=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_unit_returns_the_same_results_as_a_dictionary(
    store: Store, before: dict[bytes, int], steps: list[tuple[str, bytes, bytes]]
) -> None:
    store.write([("numbers", key, None) for key, _ in store.scan("numbers")], {})
    store.write([("numbers", key, b"%d" % value) for key, value in before.items()], {})
    unit, model = unit_over(store), dict(before)
    view = unit.table(NUMBERS)
    for number, (step, key, end) in enumerate(steps):
        if step == "put":
            view.put(key, number)
            model[key] = number
        elif step == "scan":
            assert list(view.scan(key, end)) == sorted((k, v) for k, v in model.items() if key <= k < end)
        else:
            getattr(view, step)(key)
            model.pop(key, None)
        assert view.get(key) == model.get(key)
    assert list(view.scan()) == sorted(model.items())
    commit(unit, store)
    assert list(unit_over(store).table(NUMBERS).scan()) == sorted(model.items())
