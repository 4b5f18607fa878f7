"""Computes a customer's windows as of an instant from the committed table of its history."""

from msgspec.structs import replace

from app.domain.events import POSTED, Event, Facts
from app.domain.records import WINDOWS_US
from app.engine.committed_state import CommittedState
from app.native.history import NativeHistory, without_rules
from app.web.responses import Amounts, WindowNow
from tables.encoding import number_key
from tables.velocity_histories import HISTORIES, read_history

_NOBODY = Facts(0, "", credit=True, status=POSTED, counterparty=0, country=None, lsn=None, partition=0, offset=0)


def windows_at(
    state: CommittedState, customer_id: int, now_us: int, max_events: int
) -> tuple[dict[str, WindowNow | None], bool]:
    """Returns the windows, and whether the customer has any event in them. A window with more than `max_events` events is None.

    Reads from the shortest window to the longest and stops at the limit: reads are bounded, and the windows returned are exact.
    """
    events: list[Event] = []
    known: list[str] = []
    upper_us = now_us + 1
    for name, length_us in WINDOWS_US.items():
        lower_us = now_us - length_us + 1
        older = _events(state, customer_id, lower_us, upper_us, max_events - len(events))
        if older is None:
            break
        events, upper_us = older + events, lower_us
        known.append(name)
    history = NativeHistory(without_rules(), events)
    currencies = sorted({event.facts.currency for event in events if event.facts.counted})
    by_currency = {
        currency: history.windows(Event(now_us, 0, 0, replace(_NOBODY, currency=currency)))
        for currency in currencies or [""]
    }
    common = next(iter(by_currency.values()))
    windows: dict[str, WindowNow | None] = dict.fromkeys(WINDOWS_US)
    for name in known:
        one = common[name]
        windows[name] = WindowNow(
            one.count,
            one.declined_count,
            one.distinct_counterparties,
            one.distinct_countries,
            {
                currency: Amounts(
                    by_currency[currency][name].sum,
                    by_currency[currency][name].average,
                    by_currency[currency][name].max,
                )
                for currency in currencies
            },
        )
    return windows, bool(events) or len(known) < len(WINDOWS_US)


def _events(state: CommittedState, customer_id: int, lower_us: int, upper_us: int, at_most: int) -> list[Event] | None:
    """Returns the events with lower_us <= time < upper_us in order; None if there are more than `at_most`."""
    found: list[Event] = []
    prefix = number_key(customer_id)
    for entry in state.scan_back(HISTORIES, prefix, number_key(customer_id, upper_us)):
        events = [event for event in read_history([entry], without_rules()) if event.time_us < upper_us]
        found[:0] = (event for event in events if event.time_us >= lower_us)
        if len(found) > at_most:
            return None
        if events and events[0].time_us < lower_us:
            break
    return found
