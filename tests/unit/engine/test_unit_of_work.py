"""The unit of work: what it reads, what it would commit, and that undoing a record leaves no trace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rocksdict import Cache

from app.engine.lru import LruDict
from app.engine.store import Store
from app.engine.table import Table
from app.engine.unit_of_work import BatchUnit

NUMBERS: Table[bytes, int] = Table("numbers", bytes, lambda value: b"%d" % value, int)
OTHERS: Table[bytes, int] = Table("numbers2", bytes, lambda value: b"%d" % value, int)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", block_cache=Cache(1 << 20))
    yield store
    store.close()


def unit_over(store: Store) -> BatchUnit:
    return BatchUnit(
        partition=2,
        partitions=4,
        tables=frozenset({"numbers", "numbers2"}),
        store=store,
        memory=LruDict(10),
        partitions_of=lambda _: 4,
        dead_letter_topic="letters",
        now_us=1_700_000_000_000_000,
    )


def commit(unit: BatchUnit, store: Store) -> None:
    store.write([(table, key, value) for table, key, value, _ in unit.changes()], {})


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


def test_undo_takes_back_writes_deletes_emissions_and_the_cache(store: Store) -> None:
    seed = unit_over(store)
    seed.table(NUMBERS).put(b"kept", 7)
    commit(seed, store)
    unit = unit_over(store)
    unit.table(NUMBERS).put(b"first", 1)
    unit.emit("out", key=b"k", value=b"first")
    unit.memory["derived"] = object()
    unit.mark()
    list(unit.table(NUMBERS).scan())
    unit.table(NUMBERS).put(b"first", 2)
    unit.table(NUMBERS).put(b"second", 2)
    unit.table(NUMBERS).delete(b"kept")
    unit.emit("out", key=b"k", value=b"second")
    unit.undo()
    assert list(unit.table(NUMBERS).scan()) == [(b"first", 1), (b"kept", 7)]
    assert list(unit.records.values()) == [[(b"k", b"first")]]
    assert not unit.memory


def test_an_evicted_key_leaves_the_changelog_alone_unless_this_unit_wrote_it(store: Store) -> None:
    seed = unit_over(store)
    seed.table(NUMBERS).put(b"old", 1)
    commit(seed, store)
    unit = unit_over(store)
    unit.table(NUMBERS).evict(b"old")
    unit.table(NUMBERS).put(b"new", 2)
    unit.table(NUMBERS).evict(b"new")
    assert {(key, value, logged) for _, key, value, logged in unit.changes()} == {
        (b"old", None, False),
        (b"new", None, True),
    }


def test_an_untouched_unit_is_empty(store: Store) -> None:
    unit = unit_over(store)
    assert unit.table(NUMBERS).get(b"x") is None
    assert unit.empty
    unit.emit("out", key=None, value=b"v")
    assert not unit.empty


keys = st.binary(min_size=1, max_size=2)
steps = st.lists(st.tuples(st.sampled_from(["put", "delete", "evict", "scan"]), keys, keys), max_size=25)


@given(before=st.dictionaries(keys, st.integers(0, 9)), steps=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_unit_answers_like_a_dictionary(
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
