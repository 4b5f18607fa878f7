"""Computes exact windows over a customer's history of compact events.

Order and ties. A customer's events are ordered by (event time, account, transaction); event time is `booked_at`. The window of a
transaction at t contains every known event with time in (t - length, t]: the transaction itself, and others of the same instant whatever
their ids. An event that arrives late is in the windows emitted after its arrival; windows emitted before are not corrected.

Status. Pending and posted transactions count. Declined ones count only in `declined_count`. Reversed and deleted ones do not count
(`app.domain.events`). So the windows of a declined transaction may be empty: count 0, amounts 0.00.

Currency. count, declined_count and the distinct counts cover all currencies. sum, average and max cover the transactions in the
currency of the current one. Credits and debits both count.

Horizon. Events are kept for `RETENTION_US` (31 days, a day more than the longest window) before the customer's newest event. The
horizon is never later than 31 days before the commit of the current change, so that a date in the far future drops no event. Older
events are dropped at the customer's next change. A transaction with a time before the horizon has windows of itself alone and is not
kept; its rules have the outcome insufficient_history.
"""

from collections.abc import Iterator
from typing import Final, Protocol

from app.domain.events import AmountFilter, Event
from app.domain.records import Window

DAY_US: Final = 86_400_000_000
RETENTION_US: Final = 31 * DAY_US


class CustomerHistory(Protocol):
    """The events of one customer in the order of their keys, and a cursor in time: windows and amounts end there."""

    @property
    def floor_us(self) -> int:
        """Events at or before this time are beyond the horizon: the history does not have them."""
        ...

    @property
    def newest_us(self) -> int | None:
        """Time of the newest event; None if the history is empty."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Event]:
        """The events in order."""
        ...

    def find(self, account_id: int, transaction_id: int) -> Event | None:
        """Returns the event of this account and transaction; None if there is none."""
        ...

    def put(self, event: Event) -> None:
        """Add an event, or replace the event of the same account and transaction."""
        ...

    def remove(self, event: Event) -> None:
        """Remove an event. Raises KeyError if the history does not have it."""
        ...

    def forget(self, event: Event) -> Event | None:
        """Remove the event of a deleted transaction. If rules have fired on it, an event that lists them stays in its place, with the
        status REMOVED and without counterparty and country: returns that. Raises KeyError if the history does not have it."""
        ...

    def expire(self, horizon_us: int) -> list[Event]:
        """Drop the events before the horizon and return them."""
        ...

    def seek(self, time_us: int) -> None:
        """Move the cursor to an instant."""
        ...

    def window_start_us(self, length_us: int) -> int:
        """Returns the open lower end of the window of this length that ends at the cursor; never before `floor_us`."""
        ...

    def windows(self, event: Event) -> dict[str, Window]:
        """Returns all windows of an event and moves the cursor to it. An event that is not in the history is not counted."""
        ...

    def amounts(self, selection: AmountFilter, currency: str, after_us: int) -> tuple[int, int]:
        """Returns the number of the amounts in (after, cursor] that a selection given at construction selects, and their sum in minor
        units."""
        ...

    def latest_amounts(self, selection: AmountFilter, currency: str, after_us: int, limit: int) -> list[Event]:
        """Returns the events of the same amounts, at most `limit`, newest first."""
        ...

    def previous(self, event: Event) -> Event | None:
        """Returns the event before this one in the order of keys, of any status except REMOVED; None if there is none after `floor_us`."""
        ...

    def latest_counted(self, event: Event, after_us: int, limit: int) -> list[Event]:
        """Returns the newest counted events in (after, time of the event], at most `limit`, newest first."""
        ...
