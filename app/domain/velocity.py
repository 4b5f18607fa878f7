"""What a customer did in the time up to a transaction: exact windows over the customer's history of compact events.

Order and ties. A customer's events are ordered by (event time, account, transaction); event time is `booked_at`. The window of a
transaction at t is every known event with time in (t - length, t]: the transaction itself, and others of the same instant whatever
their ids. One that arrives later is of course not in the windows that were already given out; it is in all that follow.

Status. What is pending or posted counts; what is declined counts in `declined_count` and nowhere else; what is reversed or deleted
counts nowhere (`app.domain.events`). So the windows of a declined transaction may be empty: count 0, amounts 0.00.

Currency. count, declined_count and the distinct counts are over all currencies; sum, average and max over the transactions in the
currency of the current one, which are those that average is the average of. Credits and debits both count.

Horizon. Events are kept for `KEPT_US` (31 days, a day more than the longest window) before the customer's newest event; but the
horizon is never later than 31 days before the commit of the change at hand, so that a date in the far future drops nothing. What is
older is dropped at the customer's next change. A transaction that comes with a time beyond the horizon has windows of itself alone, is
not kept, and rules have insufficient history for it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from app.domain.events import DECLINED, EVERYTHING, REMOVED, Event, Selection
from app.domain.money import to_decimal
from app.domain.records import WINDOWS_US, Window
from app.domain.tracks import AmountTrack, DistinctTrack, Key

DAY_US: Final = 86_400_000_000
KEPT_US: Final = 31 * DAY_US

_COMPACT_AT: Final = 64
"""So many expired events stay in memory before it is worth letting them go."""


class History:
    """The events of one customer, and a cursor in time whose tracks answer for any window that ends there.

    Moving the cursor costs about a microsecond an event that it passes. In order, that is one event an event. Late events and
    corrections move it back to where they belong, and it stays there until something later is asked for; so what is corrected soon
    costs little even in a history of 100,000 events.
    """

    def __init__(self, selections: Iterable[Selection] = (), events: Iterable[Event] = ()) -> None:
        """`events` in the order of their keys, all of different identity."""
        self._selections = tuple(dict.fromkeys((EVERYTHING, *selections)))
        self._events = list(events)
        self._keys = [event.key for event in self._events]
        self._by_id = {(event.account_id, event.transaction_id): event for event in self._events}
        self._first = 0
        self.floor_us = -(1 << 63)
        """What is no later than this does not exist: it is beyond the horizon."""
        self._clear_tracks()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Event]:
        """The events in order."""
        return iter(self._events[self._first :])

    @property
    def size(self) -> int:
        """What it takes in memory, in events; that of an empty history is that of some eight."""
        return len(self._events) + 8

    @property
    def newest_us(self) -> int | None:
        """Time of the newest event; None when there is none."""
        return self._keys[-1][0] if self._by_id else None

    def of_key(self, key: Key) -> Event:
        """The event that stands here in the order. KeyError if there is none."""
        return self._by_id[key[1], key[2]]

    def find(self, account_id: int, transaction_id: int) -> Event | None:
        """The event of an identity."""
        return self._by_id.get((account_id, transaction_id))

    def put(self, event: Event) -> None:
        """Add an event, or correct the one of its identity."""
        identity, key = (event.account_id, event.transaction_id), event.key
        before = self._by_id.get(identity)
        if before is not None:
            if before.time_us == event.time_us and before.facts.weight == event.facts.weight:
                self._events[self._position(key)] = self._by_id[identity] = event
                return
            self.remove(before)
        if not self._by_id or key > self._keys[-1]:
            self._events.append(event)
            self._keys.append(key)
        else:
            position = bisect_left(self._keys, key, self._first)
            self._move(min(self._reached, position))
            self._events.insert(position, event)
            self._keys.insert(position, key)
        self._by_id[identity] = event

    def remove(self, event: Event) -> None:
        """Take an event out. KeyError if it is not there."""
        del self._by_id[event.account_id, event.transaction_id]
        position = self._position(event.key)
        self._move(min(self._reached, position))
        del self._events[position], self._keys[position]

    def expire(self, horizon_us: int) -> list[Event]:
        """Drop the events before the horizon, and answer which they were."""
        if horizon_us - 1 < self.floor_us:
            self._compact()
        self.floor_us = horizon_us - 1
        if self._first == len(self._keys) or self._keys[self._first][0] >= horizon_us:
            return []
        first = bisect_left(self._keys, (horizon_us,), self._first)
        expired = self._events[self._first : first]
        for event in expired:
            del self._by_id[event.account_id, event.transaction_id]
        self._first = first
        if first > _COMPACT_AT and 2 * first > len(self._events):
            self._compact()
        return expired

    def seek(self, time_us: int) -> None:
        """Move the cursor: the tracks then hold every event up to and including this instant, and none after it."""
        keys, self._end_us = self._keys, time_us
        if self._reached == len(keys) - 1 and keys[-1][0] <= time_us:
            self._push(self._events[-1])
            self._reached += 1
        else:
            self._move(len(keys) if keys and keys[-1][0] <= time_us else bisect_left(keys, (time_us + 1,)))

    def after(self, length_us: int) -> int:
        """The open lower end of the window of this length that ends at the event last sought; never beyond the horizon."""
        return max(self._end_us - length_us, self.floor_us)

    def windows(self, event: Event) -> dict[str, Window]:
        """All windows of an event; it need not be in the history, but is counted only if it is. Moves the cursor to it."""
        self.seek(event.time_us)
        counted, declined = self._counted, self._declined
        amounts = self.amounts(EVERYTHING, event.facts.currency)
        windows: dict[str, Window] = {}
        known, window = (-1, -1), None
        for name, length_us in WINDOWS_US.items():
            after_us = max(event.time_us - length_us, self.floor_us)
            counts = (
                len(counted) - bisect_right(counted, after_us),
                len(declined) - bisect_right(declined, after_us) if declined else 0,
            )
            if window is None or counts != known:  # a longer window with the same transactions is the same window
                count, total, largest = amounts.window(after_us) if amounts is not None else (0, 0, 0)
                window = Window(
                    counts[0],
                    to_decimal(total),
                    to_decimal(half_even(total, count)) if count else "0.00",
                    to_decimal(largest),
                    self.counterparties.count(after_us),
                    self.countries.count(after_us),
                    counts[1],
                )
                known = counts
            windows[name] = window
        return windows

    def amounts(self, selection: Selection, currency: str) -> AmountTrack | None:
        """The track of a selection given at construction, up to the cursor; None while it is empty."""
        return self._amounts.get((selection, currency))

    def previous(self, event: Event) -> Event | None:
        """The event before this one in the customer's order, whatever became of it, unless it was removed or is beyond the horizon."""
        position = bisect_left(self._keys, event.key, self._first) - 1
        while position >= self._first and self._events[position].facts.status == REMOVED:
            position -= 1
        return self._events[position] if position >= self._first else None

    def latest_counted(self, event: Event, after_us: int, limit: int) -> list[Event]:
        """The newest counted events in (after, time of the event], at most `limit`, newest first."""
        found: list[Event] = []
        position = bisect_right(self._keys, (event.time_us + 1,)) - 1
        while position >= self._first and len(found) < limit and self._keys[position][0] > after_us:
            if self._events[position].facts.counted:
                found.append(self._events[position])
            position -= 1
        return found

    def _position(self, key: Key) -> int:
        position = bisect_left(self._keys, key, self._first)
        if self._keys[position] != key:
            raise KeyError(key)
        return position

    def _compact(self) -> None:
        """Let go of what has expired; the tracks are made again when they are asked."""
        del self._events[: self._first], self._keys[: self._first]
        self._first = 0
        self._clear_tracks()

    def _clear_tracks(self) -> None:
        self._reached = 0
        self._end_us = 0
        self._counted: list[int] = []
        self._declined: list[int] = []
        self.counterparties = DistinctTrack()
        self.countries = DistinctTrack()
        self._amounts: dict[tuple[Selection, str], AmountTrack] = {}

    def _move(self, position: int) -> None:
        while self._reached > position:
            self._reached -= 1
            self._pop(self._events[self._reached])
        while self._reached < position:
            self._push(self._events[self._reached])
            self._reached += 1

    def _push(self, event: Event) -> None:
        facts = event.facts
        if not facts.counted:
            if facts.status == DECLINED:
                self._declined.append(event.time_us)
            return
        time_us, key = event.time_us, event.key
        self._counted.append(time_us)
        if facts.counterparty:
            self.counterparties.push(facts.counterparty, time_us)
        if facts.country:
            self.countries.push(facts.country, time_us)
        for selection in self._selections:
            if selection.takes(facts):
                track = self._amounts.get((selection, facts.currency))
                if track is None:
                    track = self._amounts[selection, facts.currency] = AmountTrack()
                track.push(key, facts.amount_minor)

    def _pop(self, event: Event) -> None:
        facts = event.facts
        if not facts.counted:
            if facts.status == DECLINED:
                self._declined.pop()
            return
        self._counted.pop()
        if facts.counterparty:
            self.counterparties.pop(facts.counterparty)
        if facts.country:
            self.countries.pop(facts.country)
        for selection in self._selections:
            if selection.takes(facts):
                self._amounts[selection, facts.currency].pop()


def half_even(total: int, count: int) -> int:
    """`total / count`, rounded to the nearest integer, halves to the even one.

    >>> half_even(5, 2), half_even(7, 2), half_even(10, 3), half_even(-5, 2)
    (2, 4, 3, -2)
    """
    quotient, rest = divmod(total, count)
    return quotient + (2 * rest > count or (2 * rest == count and quotient % 2 == 1))
