"""Computes a customer's windows as of an instant from the committed table of its history."""

from collections.abc import Iterator

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
    newest_first = _newest_first(state, customer_id, now_us)
    event = next(newest_first, None)
    for name, length_us in WINDOWS_US.items():
        in_shorter = len(events)
        while event is not None and event.time_us > now_us - length_us and len(events) < max_events:
            events.append(event)
            event = next(newest_first, None)
        if event is not None and event.time_us > now_us - length_us:
            del events[in_shorter:]
            break
        known.append(name)
    history = NativeHistory(without_rules(), reversed(events))
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


def _newest_first(state: CommittedState, customer_id: int, until_us: int) -> Iterator[Event]:
    """Yields the events up to an instant. Each chunk is read when its first event is asked for."""
    for entry in state.scan_back(HISTORIES, number_key(customer_id), number_key(customer_id, until_us + 1)):
        events = list(read_history([entry], without_rules()))
        yield from (event for event in reversed(events) if event.time_us <= until_us)
