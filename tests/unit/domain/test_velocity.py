"""Tests windows over a customer's history: exact to the microsecond with late, repeated, corrected and deleted transactions."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.domain.events import REMOVED
from app.domain.money import half_even
from app.domain.records import TransactionRecord, VelocityRecord
from app.domain.rules.rule import RuleSet
from app.domain.screening import is_truncated
from app.domain.velocity import RETENTION_US, CustomerHistory
from app.native.history import NativeHistory, Rules
from tests.support.oracle.history import History
from tests.support.oracle.screening import Screening, TransactionChange, event_of, screen
from tests.support.streams.native import library, screen_natively
from tests.support.streams.velocity import DAY_US, HOUR_US, MINUTE_US, SECOND_US, START_US, naive_windows, transaction

NO_RULES = RuleSet(())


new_history: Callable[..., CustomerHistory] = History
"""Creates a history of `events`."""


@pytest.fixture(autouse=True, scope="module", params=["Python", "library"])
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test with histories in Python, and in the native library."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "library":
            patch.setitem(globals(), "new_history", partial(NativeHistory, Rules(library(), NO_RULES)))
        yield


def step(history: CustomerHistory, record: TransactionRecord) -> Screening:
    if isinstance(history, NativeHistory):
        return screen_natively(history, record)
    return screen(history, TransactionChange.of(record), NO_RULES, now_us=0)


def velocity(history: CustomerHistory, record: TransactionRecord) -> VelocityRecord:
    result = step(history, record).velocity
    assert result is not None
    return result


def after(*records: TransactionRecord) -> VelocityRecord:
    """The velocity record of the last transaction."""
    history = new_history()
    for record in records[:-1]:
        step(history, record)
    return velocity(history, records[-1])


def test_a_window_ends_at_the_transaction_and_opens_just_after_its_length_before() -> None:
    for name, length_us in (("1m", MINUTE_US), ("24h", DAY_US), ("30d", 30 * DAY_US)):
        outside = after(transaction(1, 0, "5.00"), transaction(2, length_us, "7.00")).windows[name]
        inside = after(transaction(1, 1, "5.00"), transaction(2, length_us, "7.00")).windows[name]
        assert (outside.count, outside.sum) == (1, "7.00")
        assert (inside.count, inside.sum, inside.average, inside.max) == (2, "12.00", "6.00", "7.00")


def test_the_greatest_amount_of_a_window_is_one_within_it() -> None:
    amounts = ("99.00", "98.00", "5.00", "3.00")
    at_us = (0, 1, MINUTE_US + 1, MINUTE_US + 2)
    window = after(
        *(transaction(number, *it) for number, it in enumerate(zip(at_us, amounts, strict=True), 1))
    ).windows["1m"]
    assert (window.count, window.max) == (2, "5.00")


def test_transactions_of_one_instant_are_in_each_others_windows_once_known() -> None:
    history = new_history()
    assert velocity(history, transaction(2)).windows["1m"].count == 1
    assert (
        velocity(history, transaction(1)).windows["1m"].count == 2
    )  # its id is lower, and its windows contain the other one too
    assert velocity(history, transaction(2, op="updated", lsn=900)).windows["1m"].count == 2


def test_a_late_transaction_has_the_windows_of_its_own_time_and_is_in_those_that_follow() -> None:
    history = new_history()
    step(history, transaction(1, 0))
    step(history, transaction(2, 10 * MINUTE_US))
    late = velocity(history, transaction(3, 30 * SECOND_US))
    assert (late.windows["1h"].count, late.seconds_since_previous) == (2, 30.0)
    assert velocity(history, transaction(4, 11 * MINUTE_US)).windows["1h"].count == 4


@pytest.mark.parametrize(
    ("status", "count", "total", "declined", "why"),
    [
        ("pending", 2, "15.00", 0, "money is reserved"),
        ("posted", 2, "15.00", 0, "money has moved"),
        ("disputed", 2, "15.00", 0, "a status that this version does not know is taken for moving money"),
        ("declined", 1, "5.00", 1, "no money moved, but someone tried"),
        ("reversed", 1, "5.00", 0, "money came back"),
    ],
)
def test_each_status_counts_in_its_measures(status: str, count: int, total: str, declined: int, why: str) -> None:
    window = after(transaction(1, status=status), transaction(2, SECOND_US, "5.00")).windows["1m"]
    assert (window.count, window.sum, window.declined_count) == (count, total, declined), why


def test_the_windows_of_a_single_declined_transaction_have_only_the_declined_count() -> None:
    window = after(transaction(1, status="declined")).windows["30d"]
    assert (window.count, window.sum, window.average, window.max, window.declined_count) == (
        0,
        "0.00",
        "0.00",
        "0.00",
        1,
    )


def test_amounts_are_those_of_the_current_currency_and_counts_are_of_all() -> None:
    window = after(transaction(1, currency="USD", amount="99.00"), transaction(2, 1, amount="5.00")).windows["1m"]
    assert (window.count, window.sum, window.average, window.max) == (2, "5.00", "5.00", "5.00")


@pytest.mark.parametrize(
    ("amounts", "average"), [(("0.01", "0.02"), "0.02"), (("0.02", "0.03"), "0.02"), (("0.01", "0.01", "0.02"), "0.01")]
)
def test_averages_round_half_to_even(amounts: tuple[str, ...], average: str) -> None:
    records = [transaction(number, number, amount) for number, amount in enumerate(amounts)]
    assert after(*records).windows["1m"].average == average


def test_a_correction_replaces_the_transaction() -> None:
    history = new_history()
    step(history, transaction(1, 0, "10.00", status="pending"))
    step(history, transaction(2, 5 * MINUTE_US, "1.00"))
    moved = velocity(history, transaction(1, 6 * MINUTE_US, "12.00", op="updated", lsn=900))
    assert (moved.windows["5m"].count, moved.windows["5m"].sum, len(history)) == (2, "13.00", 2)
    assert velocity(history, transaction(3, 6 * MINUTE_US)).windows["30d"].sum == "23.00"


def test_a_deleted_transaction_leaves_the_windows_and_gives_no_record() -> None:
    history = new_history()
    step(history, transaction(1))
    gone = step(history, transaction(1, op="deleted", lsn=900))
    assert gone.velocity is None
    assert gone.gone is not None
    assert velocity(history, transaction(2, 1)).windows["1m"].count == 1
    assert step(history, transaction(9, op="deleted")) == Screening(), "one that was never seen"


@pytest.mark.parametrize(
    ("again", "why"),
    [
        ({}, "delivered twice"),
        ({"offset": 77}, "delivered twice, at another place"),
        ({"lsn": 900}, "read again by a new snapshot"),
        ({"lsn": 90, "amount": "99.00"}, "older than what is known"),
        ({"lsn": 90, "op": "updated", "amount": "99.00"}, "an update older than what is known"),
        ({"lsn": 90, "op": "deleted"}, "a deletion older than what is known"),
        ({"op": "updated"}, "an update that says nothing new at the same position"),
    ],
)
def test_a_replayed_transaction_changes_nothing(again: dict[str, Any], why: str) -> None:
    history = new_history()
    step(history, transaction(1))
    before = list(history)
    assert step(history, transaction(1, **again)) == Screening(), why
    assert list(history) == before, why


@pytest.mark.parametrize(("offset", "again"), [(7, True), (8, False)])
def test_without_log_positions_an_update_is_ordered_by_its_offset(offset: int, again: bool) -> None:
    history = new_history()
    update = transaction(1, op="updated", offset=7)
    update = replace(update, source=replace(update.source, lsn=None))
    step(history, update)
    result = step(history, replace(update, source=replace(update.source, offset=offset)))
    assert (result.velocity is None) is again


def test_the_first_update_after_a_snapshot_may_have_the_snapshots_position() -> None:
    history = new_history()
    step(history, transaction(1))
    assert velocity(history, transaction(1, amount="99.00", op="updated")).windows["1m"].sum == "99.00"


def test_an_update_of_other_columns_than_amounts_emits_windows() -> None:
    history = new_history()
    step(history, transaction(1))
    assert velocity(history, transaction(1, op="updated", lsn=900)).source.lsn == 900


def test_the_same_id_on_another_account_is_another_transaction() -> None:
    assert after(transaction(1), transaction(1, account_id=32)).windows["1m"].count == 2


def test_seconds_since_previous_follow_the_order_of_events() -> None:
    assert after(transaction(1)).seconds_since_previous is None
    assert after(transaction(1), transaction(2, 0)).seconds_since_previous == 0.0
    assert after(transaction(1, status="declined"), transaction(2, 1_500_000)).seconds_since_previous == 1.5


def test_events_expire_31_days_before_the_newest_one() -> None:
    history = new_history()
    step(history, transaction(1))
    step(history, transaction(2, RETENTION_US))
    assert [event.transaction_id for event in history] == [1, 2]
    step(history, transaction(3, RETENTION_US + 1))
    assert [event.transaction_id for event in history] == [2, 3]
    assert history.find(31, 1) is None


def test_events_older_than_the_horizon_are_not_counted_and_one_at_the_horizon_is() -> None:
    history = new_history()
    for number, at_us in enumerate((0, 1, 2), 1):
        step(history, transaction(number, at_us))
    events = list(history)
    expired = history.expire(events[1].time_us)
    assert [event.transaction_id for event in expired] == [1]
    assert history.floor_us == events[1].time_us - 1
    history.seek(events[2].time_us)
    assert history.window_start_us(DAY_US) == history.floor_us


def test_a_late_transaction_at_the_horizon_is_kept_and_can_be_deleted() -> None:
    history = new_history()
    step(history, transaction(1, RETENTION_US))
    assert step(history, transaction(2, 0, commit_us=RETENTION_US)).kept is not None
    assert step(history, transaction(2, 0, op="deleted", lsn=900, commit_us=RETENTION_US)).gone is not None


def test_a_history_without_a_horizon_has_events_of_any_time() -> None:
    events = [event_of(transaction(number, number - START_US - SECOND_US)) for number in (1, 2)]
    assert events[-1].time_us < 0, "before 1970"
    assert new_history(events=events).windows(events[-1])["1m"].count == 2


def test_the_windows_of_an_earlier_transaction_are_the_same_when_asked_for_again() -> None:
    events = [event_of(transaction(number, number)) for number in (1, 2)]
    history = new_history(events=events)
    assert [history.windows(events[0])["1m"].count for _ in range(3)] == [1, 1, 1]
    assert history.windows(events[1])["1m"].count == 2


def test_an_expired_event_stays_expired_when_the_horizon_moves_back() -> None:
    history = new_history()
    for number in (1, 2, 3):
        step(history, transaction(number, number))
    first, _, third = history
    assert history.expire(first.time_us + 1) == [first]
    assert history.expire(first.time_us) == []
    assert history.windows(third)["1m"].count == 2


@pytest.mark.parametrize(
    ("deleted", "previous", "why"),
    [
        ([], 4, "it is the one just before"),
        ([4], 3, "that one is deleted"),
        ([3, 4], 2, "two are deleted"),
        ([1, 2, 3, 4], None, "all before it are deleted"),
    ],
)
def test_a_deleted_transaction_is_not_the_previous_one(deleted: list[int], previous: int | None, why: str) -> None:
    events = [event_of(transaction(number, number)) for number in range(1, 6)]
    history = new_history(events=events)
    for number in deleted:
        event = events[number - 1]
        history.put(replace(event, facts=replace(event.facts, status=REMOVED, fired=("large_amount",))))
    assert history.previous(events[-1]) == (None if previous is None else events[previous - 1]), why


def test_the_latest_events_are_those_after_an_instant_up_to_the_event() -> None:
    history = new_history()
    for number, at_us in enumerate((0, 1, 2, 3), 1):
        step(history, transaction(number, at_us))
    first, _, third, _ = events = list(history)
    assert [it.transaction_id for it in history.latest_counted(third, first.time_us, 9)] == [3, 2]
    assert [it.transaction_id for it in history.latest_counted(third, first.time_us - 1, 2)] == [3, 2]
    assert history.latest_counted(events[3], events[3].time_us, 9) == []


def test_a_date_in_the_far_future_expires_nothing() -> None:
    history = new_history()
    step(history, transaction(1))
    step(history, transaction(2, 400 * DAY_US, commit_us=1))
    assert len(history) == 2
    assert velocity(history, transaction(3, 2)).windows["30d"].count == 2


def test_an_event_beyond_the_horizon_has_windows_of_itself_and_is_not_stored() -> None:
    history = new_history()
    step(history, transaction(1, 40 * DAY_US))
    late = step(history, transaction(2, 0, "8.00", commit_us=40 * DAY_US))
    assert late.velocity is not None
    assert (late.velocity.windows["30d"].count, late.velocity.windows["30d"].sum) == (1, "8.00")
    assert late.kept is None
    assert len(history) == 1


def test_the_same_transaction_in_another_status_is_no_repetition() -> None:
    history = new_history()
    step(history, transaction(1, status="pending"))
    assert velocity(history, transaction(1, lsn=200)).windows["1m"].count == 1


def test_what_stays_of_a_deleted_transaction_tells_nothing_of_the_other_side() -> None:
    event = event_of(transaction(1, counterparty="A", country="DE"))
    assert new_history(events=[event]).forget(event) is None, "no rule has fired on it"
    marker = new_history(events=[event]).forget(replace(event, facts=replace(event.facts, fired=("large_amount",))))
    assert marker is None, "what is in the history decides"
    fired = replace(event, facts=replace(event.facts, fired=("large_amount",)))
    marker = new_history(events=[fired]).forget(fired)
    assert marker is not None
    assert (marker.key, marker.facts.status, marker.facts.fired) == (event.key, REMOVED, ("large_amount",))
    assert (marker.facts.counterparty, marker.facts.country) == (0, None)


@pytest.mark.parametrize(("lsn", "taken"), [(None, True), (19, True), (20, False), (21, False)])
def test_a_truncate_takes_the_events_that_are_older(lsn: int | None, taken: bool) -> None:
    assert is_truncated(lsn, 20) is taken
    assert not is_truncated(lsn, None)


@given(st.integers(-10_000, 10_000), st.integers(1, 50))
def test_rounding_half_even_equals_pythons_rounding_of_fractions(total: int, count: int) -> None:
    assert half_even(total, count) == round(Fraction(total, count))


TIMES = st.one_of(
    st.integers(0, 20).map(lambda n: n * 15 * SECOND_US),
    st.integers(0, 30).map(lambda n: n * HOUR_US // 2),
    st.integers(0, 40).map(lambda n: n * DAY_US),
    st.integers(0, 2 * HOUR_US),
)
RECORDS = st.builds(
    transaction,
    st.integers(1, 12),
    TIMES,
    st.integers(1, 500).map(lambda minor: f"{minor // 100}.{minor % 100:02d}"),
    op=st.sampled_from(["created", "created", "updated", "updated", "deleted"]),
    status=st.sampled_from(["pending", "posted", "posted", "reversed", "declined"]),
    currency=st.sampled_from(["EUR", "EUR", "USD"]),
    counterparty=st.sampled_from([None, "A", "B", "C"]),
    country=st.sampled_from([None, "DE", "FR"]),
    account_id=st.sampled_from([31, 32]),
    commit_us=st.just(60 * DAY_US),
)


@given(st.lists(RECORDS, max_size=60), st.integers(1, 60))
@settings(max_examples=250, deadline=None)
def test_windows_of_any_history_equal_a_recomputation(records: Sequence[TransactionRecord], forget_every: int) -> None:
    """Late, corrected, deleted, simultaneous and expired transactions. Histories are decoded again from their stored form at random."""
    history = new_history()
    rows: dict[tuple[int, int], TransactionRecord] = {}
    for position, unplaced in enumerate(records, 1):
        record = replace(unplaced, source=replace(unplaced.source, lsn=position, offset=position))
        if position % forget_every == 0:
            history = new_history(events=sorted(history, key=lambda event: event.key))
        identity = (record.account_id, record.transaction_id)
        result = step(history, record)
        newest_us = max(event_of(row).time_us for row in (record, *rows.values()))
        rows = {key: row for key, row in rows.items() if event_of(row).time_us >= newest_us - RETENTION_US}
        repeated = record.op == "created" and identity in rows and _content(rows[identity]) == _content(record)
        if record.op == "deleted":
            rows.pop(identity, None)
        else:
            rows[identity] = record
        if record.op == "deleted" or repeated:
            assert result.velocity is None
            continue
        assert result.velocity is not None
        too_late = event_of(record).time_us < newest_us - RETENTION_US
        seen = [record] if too_late else list(rows.values())
        assert result.velocity.windows == naive_windows(seen, record)
        if too_late:
            del rows[identity]
        assert {event.key for event in history} == {event_of(row).key for row in rows.values()}


def _content(record: TransactionRecord) -> TransactionRecord:
    return replace(record, op="created", source=replace(record.source, lsn=0, offset=0))
