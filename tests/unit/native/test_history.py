"""Tests that a history in the native library gives the same results as one in Python after any insertions, corrections and removals.

BANKSTREAM_NATIVE_EXAMPLES multiplies the examples. test_velocity.py and test_tracks.py compare Python's history with plain lists.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.config.rules_file import load_rules
from app.domain.events import (
    ALL_AMOUNTS,
    DECLINED,
    OTHER,
    PENDING,
    POSTED,
    REMOVED,
    REVERSED,
    AmountFilter,
    Event,
    Facts,
)
from app.domain.records import WINDOWS_US
from app.domain.rules.fields import RulesError
from app.domain.rules.kinds.structuring import Structuring
from app.domain.rules.kinds.threshold import Threshold
from app.domain.rules.rule import RuleSet
from app.native.history import NativeHistory, Rules
from tables.encoding import number_key
from tests.support.oracle.history import History
from tests.support.streams.native import EXAMPLES, library
from tests.support.streams.velocity import DAY_US, HOUR_US, MINUTE_US

SHIPPED: Final = load_rules(None)
SELECTIONS: Final = (ALL_AMOUNTS, *SHIPPED.selections)
CURRENCIES: Final = ("EUR", "USD", "€€", "EUROEURO", "EUROEUROS", "E\0", "")
CUSTOMER: Final = -7
MOST_MINOR: Final = 10**18 - 1
"""The largest amount of a transaction."""

ATTRIBUTES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "amount_minor": st.one_of(
        st.integers(0, 3),
        st.sampled_from([99, 100, 200, 50_000, 900_000, 999_999, 1_000_000]),
        st.integers(MOST_MINOR - 3, MOST_MINOR),
        st.sampled_from([(1 << 62) - 1, 1 << 62, (1 << 62) + 1, (1 << 63) - 1]),
    ),
    "currency": st.sampled_from(CURRENCIES),
    "credit": st.booleans(),
    "status": st.sampled_from([PENDING, POSTED, POSTED, OTHER, REVERSED, DECLINED, REMOVED]),
    "counterparty": st.sampled_from([0, 0, 1, 2, 3, (1 << 64) - 1]),
    "country": st.sampled_from([None, "DE", "FR", "ÄÖÜß", "DEUTSCHLAND", "\0"]),
    "lsn": st.sampled_from([None, 0, 7, (1 << 63) - 1]),
    "partition": st.sampled_from([0, 5, (1 << 31) - 1]),
    "offset": st.sampled_from([-(1 << 63), 0, 9, (1 << 63) - 1]),
    "fired": st.sampled_from([(), (), ("threshold",), ("threshold", "größe")]),
}
TIMES: Final = st.one_of(
    st.integers(0, 5).map(lambda number: number * MINUTE_US // 2),
    st.integers(0, 40).map(lambda number: number * HOUR_US),
    st.integers(-3, 40).map(lambda number: number * DAY_US),
    st.sampled_from([-(1 << 61), -1, 0, 1, 1 << 61]),
)
EVENTS: Final = st.builds(
    Event,
    TIMES,
    st.sampled_from([1, 2, -(1 << 63)]),
    st.one_of(st.integers(0, 9), st.sampled_from([-1, (1 << 63) - 1])),
    st.builds(Facts, **ATTRIBUTES),
)


class Pair:
    """Applies every step to both histories, and checks that they stay equal."""

    def __init__(self) -> None:
        self.rules = Rules(library(), SHIPPED)
        self.python, self.native = History(SHIPPED.selections), NativeHistory(self.rules)
        self.stored: dict[bytes, bytes] = {}

    def save(self) -> None:
        """What the store has is the history."""
        for key, value in self.native.changes(CUSTOMER):
            if value is None:
                del self.stored[key]
            else:
                self.stored[key] = value
        assert self.native.changes(CUSTOMER) == []
        assert list(self._loaded()) == list(self.native)

    def reload(self) -> None:
        """Go on with the history that the store has."""
        self.save()
        floor_us = self.python.floor_us
        self.python, self.native = History(SHIPPED.selections, list(self.python)), self._loaded()
        self.expire(floor_us + 1)

    def _loaded(self) -> NativeHistory:
        loaded, expired = NativeHistory(self.rules), 0
        for key, value in sorted(self.stored.items()):
            if key == number_key(CUSTOMER):
                expired = int.from_bytes(value, "little")
            else:
                assert loaded.load(key, value, expired)
                expired = 0
        return loaded

    def put(self, events: Sequence[Event]) -> None:
        """Puts new or corrected events. Events beyond the horizon are left out, because callers never put them."""
        for event in events:
            if event.time_us > self.python.floor_us:
                self.python.put(event)
                self.native.put(event)

    def many(self, event: Event, count: int, step_us: int) -> None:
        """Puts copies of one event at other times."""
        self.put([replace(event, time_us=event.time_us + at * step_us, transaction_id=at) for at in range(count)])

    def correct(self, place: int, change: tuple[str, Any], moved_us: int) -> None:
        """Corrects one field or the time of an existing event."""
        for event in self._at(place):
            name, value = change
            self.put([replace(event, time_us=event.time_us + moved_us, facts=replace(event.facts, **{name: value}))])
            self.look(place, event)

    def remove(self, place: int, other: Event) -> None:
        """Removes an existing event, and one that may exist."""
        for event in (*self._at(place), other):
            if self.python.find(event.account_id, event.transaction_id) is not None:
                found = self.python.find(event.account_id, event.transaction_id)
                assert found is not None
                self.python.remove(found)
                self.native.remove(found)
            with pytest.raises(KeyError):
                self.native.remove(event)

    def forget(self, place: int, other: Event) -> None:
        """One that is there; and one that may be."""
        for event in (*self._at(place), other):
            if self.python.find(event.account_id, event.transaction_id) is None:
                with pytest.raises(KeyError):
                    self.native.forget(event)
            else:
                assert self.native.forget(event) == self.python.forget(event)

    def expire(self, horizon_us: int) -> None:
        """Expires events forward or backward."""
        assert self.native.expire(horizon_us) == self.python.expire(horizon_us)

    def expire_at(self, place: int, more_us: int) -> None:
        """Expires at the time of an existing event, or close to it."""
        for event in self._at(place):
            self.expire(event.time_us + more_us)

    def seek(self, time_us: int) -> None:
        """Seeks to any time."""
        self.python.seek(time_us)
        self.native.seek(time_us)

    def look(self, place: int, other: Event) -> None:
        """Compares all queries about an event, whether it exists or not."""
        for event in (other, *self._at(place)):
            assert self.native.windows(event) == self.python.windows(event)
            assert self.native.previous(event) == self.python.previous(event)
            identity = event.account_id, event.transaction_id
            found = self.python.find(*identity)
            assert self.native.find(*identity) == found
            for after_us in (self.python.floor_us, event.time_us - 1, event.time_us - DAY_US):
                for limit in (0, 1, 3, 1_000):
                    found_newest = self.python.latest_counted(event, after_us, limit)
                    assert self.native.latest_counted(event, after_us, limit) == found_newest

    def read_again(self) -> None:
        """Decodes both histories from their stored form."""
        events = list(self.python)
        self.python, self.native = History(SHIPPED.selections, events), NativeHistory(self.rules, events)
        self.stored = {}

    def compare(self) -> None:
        """Compares everything that can be read without a change."""
        python, native = self.python, self.native
        assert (len(native), native.floor_us) == (len(python), python.floor_us)
        assert native.newest_us == python.newest_us
        events = list(python)
        assert list(native) == events
        assert native.memory_bytes >= 88 * len(events)
        for event in events[:: 1 + len(events) // 3]:
            self.seek(event.time_us)
            for length_us in WINDOWS_US.values():
                after_us = native.window_start_us(length_us)
                assert after_us == python.window_start_us(length_us)
                for amounts in product(SELECTIONS, CURRENCIES, (after_us,)):
                    assert native.amounts(*amounts) == python.amounts(*amounts)
                    for limit in (1, 50):
                        assert native.latest_amounts(*amounts, limit) == python.latest_amounts(*amounts, limit)

    def _at(self, place: int) -> list[Event]:
        return list(islice(self.python, place % len(self.python), None))[:1] if len(self.python) else []


PLACES: Final = st.integers(0, 1_000)
CLOSE: Final = st.sampled_from([0, 1, -1])
CHANGES: Final = st.one_of(*(st.tuples(st.just(name), values) for name, values in ATTRIBUTES.items()))
STEPS: Final[st.SearchStrategy[tuple[Callable[..., None], *tuple[Any, ...]]]] = st.one_of(
    st.tuples(st.just(Pair.put), st.lists(EVENTS, min_size=1, max_size=8)),
    st.tuples(st.just(Pair.put), st.lists(EVENTS, min_size=1, max_size=8)),
    st.tuples(st.just(Pair.correct), PLACES, CHANGES, st.sampled_from([0, 0, 0, 1, -1, MINUTE_US, -DAY_US])),
    st.tuples(st.just(Pair.correct), PLACES, CHANGES, st.sampled_from([0, 0, 0, 1, -1, MINUTE_US, -DAY_US])),
    st.tuples(st.just(Pair.remove), PLACES, EVENTS),
    st.tuples(st.just(Pair.forget), PLACES, EVENTS),
    st.tuples(st.just(Pair.expire), TIMES),
    st.tuples(st.just(Pair.expire_at), PLACES, CLOSE),
    st.tuples(st.just(Pair.seek), TIMES),
    st.tuples(st.just(Pair.look), PLACES, EVENTS),
    st.tuples(st.just(Pair.look), PLACES, EVENTS),
    st.tuples(st.just(Pair.many), EVENTS, st.sampled_from([2, 20, 20, 500]), st.sampled_from([0, 1, MINUTE_US, 2 * HOUR_US])),
    st.tuples(st.just(Pair.read_again)),
    st.tuples(st.just(Pair.save)),
    st.tuples(st.just(Pair.save)),
    st.tuples(st.just(Pair.reload)),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module", params=[(2, 2), (7, 3), (100, 10), (1_024, 32)])
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of blocks and chunks: small, so that short histories have many of them; and as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.native.history.BLOCK_EVENTS", request.param[0])
        patch.setattr("app.native.history.CHUNK_EVENTS", request.param[1])
        yield


@given(st.lists(STEPS, max_size=30))
@settings(max_examples=300 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_histories_answer_the_same(steps: Sequence[tuple[Any, ...]]) -> None:
    pair = Pair()
    for step, *arguments in steps:
        step(pair, *arguments)
        pair.compare()


@pytest.mark.parametrize("amount", [MOST_MINOR, 1 << 62])
def test_sums_of_more_than_64_bits_are_exact(amount: int) -> None:
    pair = Pair()
    facts = Facts(
        amount, "EUR", credit=False, status=POSTED, counterparty=0, country=None, lsn=1, partition=0, offset=0
    )
    event = Event(0, 1, 0, facts)
    pair.many(event, 3_001, MINUTE_US)
    pair.put([replace(event, time_us=HOUR_US, transaction_id=9_000, facts=replace(facts, amount_minor=1))])
    last = replace(event, time_us=3_000 * MINUTE_US)
    windows = pair.native.windows(last)
    assert windows == pair.python.windows(last)
    total = 3_001 * amount + 1
    assert windows["30d"].sum == f"{total // 100}.{total % 100:02}"
    assert total > 100 << 64
    pair.compare()


EVENT: Final = Event(0, 1, 1, Facts(1, "EUR", True, POSTED, 0, None, 1, 0, 0))


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": (1 << 63) - 1},
        {"lsn": None},
        {"partition": (1 << 31) - 1},
        *({"currency": text} for text in ("", "EUROEURO", "EUROEUROS", "€€", "€€€", "E\0", "\0", "x" * 1_000)),
        *({"country": text} for text in ("DEUTSCHL", "DEUTSCHLA", "\0", "Ä" * 1_000)),
        {"fired": ("threshold", "größe" * 100)},
    ],
)
def test_every_valid_event_comes_back(change: dict[str, Any]) -> None:
    event = replace(EVENT, facts=replace(EVENT.facts, **change))
    again = replace(event, transaction_id=2)
    assert list(NativeHistory(Rules(library(), SHIPPED), [event, again])) == [event, again]


def test_a_text_is_kept_once_and_counted() -> None:
    history = NativeHistory(Rules(library(), SHIPPED))
    facts = replace(EVENT.facts, currency="x" * 100_000)
    sizes = []
    for number in range(3):
        history.put(replace(EVENT, transaction_id=number, facts=facts))
        sizes.append(history.memory_bytes)
    assert sizes[0] > 100_000
    assert sizes[-1] - sizes[0] < 5_000


def test_memory_is_that_of_the_events_and_expired_ones_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.native.history.BLOCK_EVENTS", 512)
    history = NativeHistory(Rules(library(), SHIPPED))
    assert history.memory_bytes < 1_000
    for number in range(10_000):
        history.put(replace(EVENT, time_us=number, transaction_id=number))
    full = history.memory_bytes
    assert 88 * 10_000 < full < 400 * 10_000
    history.expire(9_990)
    assert history.memory_bytes < full / 10


def test_rules_that_the_library_has_no_room_for_are_refused() -> None:
    native = library()
    (structuring,) = (rule for rule in SHIPPED.rules if isinstance(rule, Structuring))
    bands = [
        dataclasses.replace(structuring, id=str(number), band=AmountFilter(frozenset({"debit"})))
        for number in range(40)
    ]
    (threshold,) = (rule for rule in SHIPPED.rules if isinstance(rule, Threshold))
    selections, concerns = native.lib.BANK_SELECTIONS - 1, native.lib.BANK_CONCERNS
    Rules(native, RuleSet(tuple(bands[:selections])))  # one selection is that of everything
    with pytest.raises(RulesError, match=r"the 32 rules have 32 bands of amounts .* room for 31\. Take rules out"):
        Rules(native, RuleSet(tuple(bands[: selections + 1])))
    Rules(native, RuleSet((threshold,) * concerns))
    with pytest.raises(RulesError, match=r"the 65 rules have 65 prefilters, .* room for 64"):
        Rules(native, RuleSet((threshold,) * (concerns + 1)))


def test_a_history_may_outlive_its_rules() -> None:
    """The history keeps the data that it needs to free itself. The memory of the rules may have been overwritten since."""
    rules = Rules(library(), SHIPPED)
    history = NativeHistory(rules, [EVENT])
    history.seek(EVENT.time_us)
    library().ffi.memmove(
        rules.pointer, b"\x7f" * library().ffi.sizeof("bank_rules"), library().ffi.sizeof("bank_rules")
    )
    del history


@pytest.mark.parametrize(
    "change", [{"amount_minor": 7}, {"currency": "USD"}, {"credit": False}, {"status": DECLINED}, {"counterparty": 2}, {"country": "FR"}]
)  # fmt: skip
def test_a_correction_behind_the_cursor_is_seen(change: dict[str, Any]) -> None:
    pair, facts = Pair(), replace(EVENT.facts, counterparty=1, country="DE")
    first, second = replace(EVENT, facts=facts), replace(EVENT, transaction_id=2, facts=facts)
    for it in (second, replace(second, facts=replace(facts, **change)), second):
        pair.put([first, it])
        pair.look(1, it)
        pair.compare()
