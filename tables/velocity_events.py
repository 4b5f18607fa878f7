"""The table of the transactions in the velocity windows. Key: (customer_id, event time, account_id, transaction_id).

A scan of a customer's prefix returns its history in order. Value: the `Facts` of the transaction. Each transaction has one entry. The
changelog keeps 31 days and is not compacted.

There is no index from a transaction's id to its time, although a correction names only the id. An index would double the entries of the
changelog and of RocksDB, and each new transaction would need a read of 3.5 us that finds nothing. Instead the first record of a customer
reads its whole history, which the windows need anyway. The history then stays in memory in an LRU cache. Entries are evicted when they
expire, without a tombstone: the changelog's retention removes them there.
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
    """Returns the same bytes as `number_key`, faster.

    >>> event_key((7, -1, 3, 4)) == number_key(7, -1, 3, 4)
    True
    """
    customer_id, time_us, account_id, transaction_id = key
    return _KEY.pack(customer_id + BIAS, time_us + BIAS, account_id + BIAS, transaction_id + BIAS)


def decode_event(raw_key: bytes, facts: Facts) -> tuple[int, Event]:
    """Returns the customer_id and the event of an entry of a scan."""
    customer_id, time_us, account_id, transaction_id = _KEY.unpack(raw_key)
    return customer_id - BIAS, Event(time_us - BIAS, account_id - BIAS, transaction_id - BIAS, facts)


EVENTS: Final[Table[EventKey, Facts]] = Table(
    "velocity", event_key, msgspec.msgpack.encode, msgspec.msgpack.Decoder(Facts).decode, retention_ms=31 * DAY_MS
)
TABLES: Final = (EVENTS,)

EventsView = View[EventKey, Facts]


def read_history(events: EventsView, customer_id: int) -> Iterator[Event]:
    """Scans a customer's whole history in order."""
    prefix = number_key(customer_id)
    return (decode_event(raw_key, facts)[1] for raw_key, facts in events.scan(prefix, after_prefix(prefix)))


class HistoryCache:
    """An LRU cache of histories: at most `limit` events in all, but always the history used last."""

    def __init__(self, limit: int, truncated_lsn: int | None = None) -> None:
        """`truncated_lsn`: the log position of the last TRUNCATE of transactions."""
        self.truncated_lsn = truncated_lsn
        self._limit, self._events = limit, 0
        self._histories: OrderedDict[int, tuple[CustomerHistory, int]] = OrderedDict()

    def take(self, customer_id: int) -> CustomerHistory | None:
        """Removes a customer's history from the cache and returns it; None if it is not cached. `put` it back after use."""
        found = self._histories.pop(customer_id, None)
        if found is None:
            return None
        self._events -= found[1]
        return found[0]

    def put(self, customer_id: int, history: CustomerHistory, size: int) -> None:
        """Insert a history of `size` events as the one used last. Evicts the least recently used beyond the limit."""
        self._histories[customer_id] = history, size
        self._events += size
        while self._events > self._limit and len(self._histories) > 1:
            _, (_, size) = self._histories.popitem(last=False)
            self._events -= size
