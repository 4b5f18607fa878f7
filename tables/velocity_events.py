"""The velocity log. Key: (customer_id, event time, account_id, transaction_id), so that a scan of a customer is its history in order.
Value: what is kept of the transaction (`Facts`). One entry a transaction; its changelog keeps 31 days and is not compacted.

There is no index from a transaction's id to its time, although a correction names only the id: it would double the entries of the
changelog and of RocksDB, and cost every new transaction a read of 3.5 us to find nothing. Instead the first touch of a
customer reads all of its history, which the windows need anyway, and what is read stays in memory, least recently used first
to go. Entries are evicted when they expire: the changelog, which forgets them by itself, is not told.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from app.domain.events import Event, Facts
from app.domain.velocity import CustomerHistory
from app.engine.table import DAY_MS, Table, View
from tables.encoding import BIAS, after_prefix, number_key

EventKey = tuple[int, int, int, int]
"""customer_id, event time in microseconds, account_id, transaction_id."""

_KEY: Final = struct.Struct(">QQQQ")


def event_key(key: EventKey) -> bytes:
    """The bytes of `number_key`, faster.

    >>> event_key((7, -1, 3, 4)) == number_key(7, -1, 3, 4)
    True
    """
    customer_id, time_us, account_id, transaction_id = key
    return _KEY.pack(customer_id + BIAS, time_us + BIAS, account_id + BIAS, transaction_id + BIAS)


def decode_event(raw_key: bytes, facts: Facts) -> tuple[int, Event]:
    """The customer, and the event that this entry of a scan is."""
    customer_id, time_us, account_id, transaction_id = _KEY.unpack(raw_key)
    return customer_id - BIAS, Event(time_us - BIAS, account_id - BIAS, transaction_id - BIAS, facts)


EVENTS: Final[Table[EventKey, Facts]] = Table(
    "velocity", event_key, msgspec.msgpack.encode, msgspec.msgpack.Decoder(Facts).decode, retention_ms=31 * DAY_MS
)
TABLES: Final = (EVENTS,)

EventsView = View[EventKey, Facts]


def read_history(events: EventsView, customer_id: int) -> Iterator[Event]:
    """A customer's whole history in order, by a scan."""
    prefix = number_key(customer_id)
    return (decode_event(raw_key, facts)[1] for raw_key, facts in events.scan(prefix, after_prefix(prefix)))


class HistoryCache:
    """The histories in memory: at most `limit` events in all, but always the customer at hand. Those used least recently go first."""

    def __init__(self, limit: int, truncated_lsn: int | None = None) -> None:
        """`truncated_lsn`: the log position of the last TRUNCATE of transactions."""
        self.truncated_lsn = truncated_lsn
        self._limit, self._events = limit, 0
        self._histories: OrderedDict[int, tuple[CustomerHistory, int]] = OrderedDict()

    def take(self, customer_id: int) -> CustomerHistory | None:
        """The history of a customer, out of memory; `put` it when it has been changed."""
        found = self._histories.pop(customer_id, None)
        if found is None:
            return None
        self._events -= found[1]
        return found[0]

    def put(self, customer_id: int, history: CustomerHistory, size: int) -> None:
        """Put a history of this size back as the one used last."""
        self._histories[customer_id] = history, size
        self._events += size
        while self._events > self._limit and len(self._histories) > 1:
            _, (_, size) = self._histories.popitem(last=False)
            self._events -= size
