"""Stored histories: what `derive` makes of the changelog's records is what a worker had that never stopped."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.rules_file import load_rules
from app.domain.events import POSTED, Event, Facts
from app.domain.rules.rule import RuleSet
from app.engine.derivation import TOMBSTONE
from app.engine.memory import InMemoryKeyValueStore
from app.engine.store import UnreadableEntryError
from app.native.history import NativeHistory, Rules
from tables import velocity_histories
from tables.encoding import after_prefix, number_key
from tables.velocity_events import EVENTS
from tables.velocity_histories import HISTORIES, derive, read_history
from tests.support.streams.native import library
from tests.support.streams.velocity import HOUR_US

CUSTOMERS = (-3, 7, 8)
RULES = Rules(library(), load_rules(None))

Step = tuple[int, int, int, bool]
"""customer, transaction, hour, and whether the transaction is deleted instead."""
STEPS = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.integers(0, 30), st.integers(0, 60), st.booleans()), max_size=150
)


def event(transaction_id: int, hour: int) -> Event:
    facts = Facts(
        100 + hour, "EUR", credit=False, status=POSTED, counterparty=5, country="DE", lsn=1, partition=0, offset=9
    )
    return Event(hour * HOUR_US, 1, transaction_id, facts)


def history_of(store: InMemoryKeyValueStore, customer_id: int) -> NativeHistory:
    prefix = number_key(customer_id)
    return read_history(store.scan(HISTORIES.name, prefix, after_prefix(prefix)), RULES)


class Worker:
    """A store that is written as a worker writes it, and the changelog beside it."""

    def __init__(self) -> None:
        self.store, self.log = InMemoryKeyValueStore(), InMemoryKeyValueStore()

    def apply(self, step: Step) -> None:
        customer_id, transaction_id, hour, is_deleted = step
        history = history_of(self.store, customer_id)
        known = history.find(1, transaction_id)
        if is_deleted:
            if known is not None:
                history.remove(known)
                self._say(customer_id, known, b"")
        else:
            new = event(transaction_id, hour)
            if known is not None and known.time_us != new.time_us:
                self._say(customer_id, known, b"")
            history.put(new)
            self._say(customer_id, new, EVENTS.encode(new.facts))
        self.store.write((HISTORIES.name, key, value) for key, value in history.changes(customer_id))

    def _say(self, customer_id: int, one: Event, value: bytes) -> None:
        key = EVENTS.encode_key((customer_id, one.time_us, one.account_id, one.transaction_id))
        self.log.write([(EVENTS.name, key, value)])


def derived(store: InMemoryKeyValueStore) -> int:
    """Run `derive` to its end; answers its number of steps."""
    steps = 0
    for step in derive(store):
        store.write(step.changes)
        steps += 1
    assert list(store.scan(EVENTS.name)) == []
    return steps


@given(STEPS, st.integers(0, 150))
@settings(max_examples=150, deadline=None)
def test_restored_histories_are_those_of_a_worker_that_never_stopped(steps: Sequence[Step], restart: int) -> None:
    """From the whole changelog, and from what came after an earlier state."""
    worker, empty, earlier = Worker(), InMemoryKeyValueStore(), InMemoryKeyValueStore()
    for step in steps[:restart]:
        worker.apply(step)
    earlier.write((HISTORIES.name, key, value) for key, value in worker.store.scan(HISTORIES.name))
    before = dict(worker.log.scan(EVENTS.name))
    for step in steps[restart:]:
        worker.apply(step)
    whole = dict(worker.log.scan(EVENTS.name))
    empty.write((EVENTS.name, key, value) for key, value in whole.items())
    earlier.write((EVENTS.name, key, value) for key, value in whole.items() if before.get(key) != value)
    derived(empty)
    derived(earlier)
    for customer_id in CUSTOMERS:
        expected = list(history_of(worker.store, customer_id))
        assert list(history_of(empty, customer_id)) == expected
        assert list(history_of(earlier, customer_id)) == expected


def test_a_long_derivation_has_many_steps_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(velocity_histories, "STEP_EVENTS", 100)
    store = InMemoryKeyValueStore()
    for customer_id in range(10):
        for number in range(60):
            one = event(number, number)
            key = EVENTS.encode_key((customer_id, one.time_us, one.account_id, one.transaction_id))
            store.write([(EVENTS.name, key, EVENTS.encode(one.facts))])
    shares = [step.share for step in derive(store)]
    assert shares == pytest.approx([1 / 9, 3 / 9, 5 / 9, 7 / 9, 1])
    assert derived(store) == 5
    assert [len(history_of(store, customer_id)) for customer_id in range(10)] == [60] * 10


def test_one_customer_with_many_records_is_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(velocity_histories, "STEP_EVENTS", 100)
    store = InMemoryKeyValueStore()
    for number in range(950):
        one = event(number, number)
        store.write([(EVENTS.name, EVENTS.encode_key((7, one.time_us, 1, number)), EVENTS.encode(one.facts))])
    steps = derive(store)
    for _ in range(4):
        store.write(next(steps).changes)
    assert len(history_of(store, 7)) == 400
    assert derived(store) == 6
    assert len(history_of(store, 7)) == 950


def test_nothing_to_derive_takes_no_step() -> None:
    store = InMemoryKeyValueStore()
    assert derived(store) == 0
    store.write([(EVENTS.name, EVENTS.encode_key((7, 0, 1, 1)), TOMBSTONE)])
    assert derived(store) == 1
    assert list(store.scan(HISTORIES.name)) == []


@pytest.mark.parametrize("damage", ["version", "short", "long", "empty", "text"])
def test_a_damaged_chunk_is_an_error_that_names_the_customer(damage: str) -> None:
    history = NativeHistory(Rules(library(), RuleSet(())), [event(number, number) for number in range(5)])
    ((key, value),) = history.changes(7)
    assert value is not None
    damaged = {
        "version": b"\x09" + value[1:],
        "short": value[:-1],
        "long": value + b"\0",
        "empty": b"",
        "text": value.replace(b"EUR", b"EU\xff"),
    }[damage]
    assert len(read_history([(key, value)], RULES)) == 5
    with pytest.raises(UnreadableEntryError, match="the stored history of customer 7 cannot be read"):
        read_history([(key, damaged)], RULES)


def test_chunks_that_do_not_fit_their_keys_or_each_other_are_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.native.history.CHUNK_EVENTS", 4)
    rules = Rules(library(), RuleSet(()))
    history = NativeHistory(rules, [event(number, number) for number in range(12)])
    entries = [(key, value or b"") for key, value in history.changes(7)]
    (first, of_first), (second, of_second), (third, of_third) = entries
    assert len(read_history(entries, RULES)) == 12
    for wrong in (
        [(first, of_first), (third, of_second)],
        [(first, of_second), (second, of_first)],
        [(second, of_second), (first, of_first)],
        [(first, of_first), (first, of_first)],
        [(first[:20], of_first)],
        [(first + b"\0", of_first)],
        [(number_key(7), b"\1"), (first, of_first)],
        [(number_key(7), (4).to_bytes(4, "little")), (first, of_first)],
        [(second, of_third), (third, of_third)],
    ):
        with pytest.raises(UnreadableEntryError):
            read_history(wrong, RULES)


def test_the_first_events_of_a_chunk_expire_without_writing_it_again() -> None:
    store, history = InMemoryKeyValueStore(), NativeHistory(RULES, [event(number, number) for number in range(20)])
    store.write((HISTORIES.name, key, value) for key, value in history.changes(7))
    history.expire(5 * HOUR_US)
    ((key, value),) = history.changes(7)
    assert (key, value) == (number_key(7), (5).to_bytes(4, "little"))
    store.write([(HISTORIES.name, key, value)])
    assert list(history_of(store, 7)) == list(history)
    history.expire(100 * HOUR_US)
    store.write((HISTORIES.name, key, value) for key, value in history.changes(7))
    assert list(store.scan(HISTORIES.name)) == []
