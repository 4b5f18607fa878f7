"""A customer's history in Python: the oracle of the native library's.

tests/unit/domain/test_velocity.py and test_tracks.py compare it with plain lists.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from app.domain.events import ALL_AMOUNTS, COUNTED, DECLINED, POSTED, REMOVED, AmountFilter, Event, Facts, Key
from app.domain.money import half_even, to_decimal
from app.domain.records import WINDOWS_US, Window
from tests.support.oracle.aggregates import AmountAggregate, DistinctAggregate

_LENGTHS: Final = tuple(WINDOWS_US.items())
_NOTHING: Final = AmountAggregate()
"""The amounts of a currency without counted events."""


def window_values(facts: Facts) -> tuple[object, ...]:
    """The fields that windows depend on: two events of equal time and equal values give the same windows."""
    status = POSTED if facts.status in COUNTED else facts.status
    return facts.amount_minor, facts.currency, facts.credit, status, facts.counterparty, facts.country


class History:
    """A customer's history. Implements `CustomerHistory`, which documents the methods.

    Moving the cursor costs about a microsecond for each event that it passes. Events that arrive in order move it by one event each. A
    late event or a correction moves it back to the position of that event, and it stays there until a later time is read. So a
    correction of a recent event costs little even in a history of 100,000 events.
    """

    def __init__(self, selections: Iterable[AmountFilter] = (), events: Iterable[Event] = ()) -> None:
        """`events` are in the order of their keys, and no two have the same account and transaction."""
        self._selections = tuple(dict.fromkeys((ALL_AMOUNTS, *selections)))
        self._bounds = tuple(
            (it.at_least_minor, it.at_most_minor, "credit" in it.types, "debit" in it.types) for it in self._selections
        )
        self._events = list(events)
        self._keys = [event.key for event in self._events]
        self._by_id = {(event.account_id, event.transaction_id): event for event in self._events}
        self.floor_us = -(1 << 63)
        """See `CustomerHistory`."""
        self._clear_tracks()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Event]:
        """See `CustomerHistory`."""
        return iter(self._events)

    @property
    def newest_us(self) -> int | None:
        """See `CustomerHistory`."""
        return self._keys[-1][0] if self._by_id else None

    def find(self, account_id: int, transaction_id: int) -> Event | None:
        """See `CustomerHistory`."""
        return self._by_id.get((account_id, transaction_id))

    def put(self, event: Event) -> None:
        """See `CustomerHistory`."""
        identity, key = (event.account_id, event.transaction_id), event.key
        before = self._by_id.get(identity)
        if before is not None:
            if before.time_us == event.time_us and window_values(before.facts) == window_values(event.facts):
                self._events[self._position(key)] = self._by_id[identity] = event
                return
            self.remove(before)
        if not self._by_id or key > self._keys[-1]:
            self._events.append(event)
            self._keys.append(key)
        else:
            position = bisect_left(self._keys, key)
            self._move(min(self._reached, position))
            self._events.insert(position, event)
            self._keys.insert(position, key)
        self._by_id[identity] = event

    def remove(self, event: Event) -> None:
        """See `CustomerHistory`."""
        del self._by_id[event.account_id, event.transaction_id]
        position = self._position(event.key)
        self._move(min(self._reached, position))
        del self._events[position], self._keys[position]

    def forget(self, event: Event) -> Event | None:
        """See `CustomerHistory`."""
        known = self._by_id[event.account_id, event.transaction_id]
        if not known.facts.fired:
            self.remove(known)
            return None
        marker = replace(known, facts=replace(known.facts, status=REMOVED, counterparty=0, country=None))
        self.put(marker)
        return marker

    def expire(self, horizon_us: int) -> list[Event]:
        """See `CustomerHistory`."""
        self.floor_us = horizon_us - 1
        first = bisect_left(self._keys, (horizon_us,))
        expired = self._events[:first]
        for event in expired:
            del self._by_id[event.account_id, event.transaction_id]
        if expired:
            del self._events[:first], self._keys[:first]
            self._clear_tracks()
        return expired

    def seek(self, time_us: int) -> None:
        """See `CustomerHistory`."""
        keys, self._end_us = self._keys, time_us
        if self._reached == len(keys) - 1 and keys[-1][0] <= time_us:
            self._push(self._events[-1], keys[-1])
            self._reached += 1
        else:
            self._move(len(keys) if keys and keys[-1][0] <= time_us else bisect_left(keys, (time_us + 1,)))

    def window_start_us(self, length_us: int) -> int:
        """See `CustomerHistory`."""
        return max(self._end_us - length_us, self.floor_us)

    def windows(self, event: Event) -> dict[str, Window]:
        """See `CustomerHistory`."""
        time_us, floor_us = event.time_us, self.floor_us
        self.seek(time_us)
        counted, declined = self._counted, self._declined
        amounts = self._track(ALL_AMOUNTS, event.facts.currency)
        times, rows, peaks = amounts.times, amounts.rows, amounts.peaks
        counterparties, countries = self.counterparties.last, self.countries.last
        first = end = len(counted)
        first_amount = end_amount = len(times)
        shares_positions = end == end_amount  # there is no other currency
        first_declined = end_declined = len(declined)
        all_counterparties, all_countries = len(counterparties), len(countries)
        sum_to_end = rows[-1][0]
        windows: dict[str, Window] = {}
        window = None
        # From the shortest to the longest: each begins where the one before does, or earlier. This loop is half of the cost of a
        # transaction, so its steps are inlined instead of called.
        for name, length_us in _LENGTHS:
            after_us = time_us - length_us
            after_us = max(after_us, floor_us)
            if first and counted[first - 1] > after_us:
                first, window = bisect_right(counted, after_us, 0, first), None
            if first_declined and declined[first_declined - 1] > after_us:
                first_declined, window = bisect_right(declined, after_us, 0, first_declined), None
            if window is None:  # else the shorter window has the same transactions
                if shares_positions:
                    first_amount = first
                elif first_amount and times[first_amount - 1] > after_us:
                    first_amount = bisect_right(times, after_us, 0, first_amount)
                count = end_amount - first_amount
                total = sum_to_end - rows[first_amount][0]
                in_all = average = most = to_decimal(total)
                if count > 1:
                    average = to_decimal(half_even(total, count))
                    most = to_decimal(rows[peaks[bisect_left(peaks, first_amount + 1)]][1])
                window = Window(
                    end - first,
                    in_all,
                    average,
                    most,
                    all_counterparties and all_counterparties - bisect_right(counterparties, after_us),
                    all_countries and all_countries - bisect_right(countries, after_us),
                    end_declined - first_declined,
                )
            windows[name] = window
        return windows

    def amounts(self, selection: AmountFilter, currency: str, after_us: int) -> tuple[int, int]:
        """See `CustomerHistory`."""
        track = self._track(selection, currency)
        first = track.first_after(after_us, len(track))
        return len(track) - first, track.total(first)

    def latest_amounts(self, selection: AmountFilter, currency: str, after_us: int, limit: int) -> list[Event]:
        """See `CustomerHistory`."""
        track = self._track(selection, currency)
        first = max(track.first_after(after_us, len(track)), len(track) - limit)
        keys = (track.key(position) for position in reversed(range(first, len(track))))
        return [self._by_id[account_id, transaction_id] for _, account_id, transaction_id in keys]

    def _track(self, selection: AmountFilter, currency: str) -> AmountAggregate:
        tracks = self._amounts.get(currency)
        return _NOTHING if tracks is None else tracks[self._selections.index(selection)]

    def previous(self, event: Event) -> Event | None:
        """See `CustomerHistory`."""
        keys, key = self._keys, event.key
        position = len(keys) - 2 if keys and keys[-1] == key else bisect_left(keys, key) - 1
        while position >= 0 and self._events[position].facts.status == REMOVED:
            position -= 1
        return self._events[position] if position >= 0 else None

    def latest_counted(self, event: Event, after_us: int, limit: int) -> list[Event]:
        """See `CustomerHistory`."""
        found: list[Event] = []
        position = bisect_right(self._keys, (event.time_us + 1,)) - 1
        while position >= 0 and len(found) < limit and self._keys[position][0] > after_us:
            if self._events[position].facts.counted:
                found.append(self._events[position])
            position -= 1
        return found

    def _position(self, key: Key) -> int:
        position = bisect_left(self._keys, key)
        if self._keys[position] != key:
            raise KeyError(key)
        return position

    def _clear_tracks(self) -> None:
        self._reached = 0
        self._end_us = 0
        self._counted: list[int] = []
        self._declined: list[int] = []
        self.counterparties = DistinctAggregate()
        self.countries = DistinctAggregate()
        self._amounts: dict[str, tuple[AmountAggregate, ...]] = {}
        """The tracks by currency: one for each selection, in the order of the selections."""

    def _move(self, position: int) -> None:
        while self._reached > position:
            self._reached -= 1
            self._pop(self._events[self._reached])
        while self._reached < position:
            self._push(self._events[self._reached], self._keys[self._reached])
            self._reached += 1

    def _push(self, event: Event, key: Key) -> None:
        facts, time_us = event.facts, event.time_us
        if facts.status not in COUNTED:
            if facts.status == DECLINED:
                self._declined.append(time_us)
            return
        self._counted.append(time_us)
        if facts.counterparty:
            self.counterparties.push(facts.counterparty, time_us)
        if facts.country:
            self.countries.push(facts.country, time_us)
        tracks = self._amounts.get(facts.currency)
        if tracks is None:
            tracks = self._amounts[facts.currency] = tuple(AmountAggregate() for _ in self._selections)
        amount, credit = facts.amount_minor, facts.credit
        for (at_least, at_most, takes_credit, takes_debit), track in zip(self._bounds, tracks, strict=True):
            if at_least <= amount <= at_most and (takes_credit if credit else takes_debit):
                track.push(key, amount)

    def _pop(self, event: Event) -> None:
        facts = event.facts
        if facts.status not in COUNTED:
            if facts.status == DECLINED:
                self._declined.pop()
            return
        self._counted.pop()
        if facts.counterparty:
            self.counterparties.pop(facts.counterparty)
        if facts.country:
            self.countries.pop(facts.country)
        for selection, track in zip(self._selections, self._amounts[facts.currency], strict=True):
            if selection.matches(facts):
                track.pop()
