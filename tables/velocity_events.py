"""The changelog of the transactions in the velocity windows. Key: (customer_id, event time, account_id, transaction_id).

Value: the `Facts` of the transaction. Each transaction has one record; the changelog keeps 31 days and is not compacted. So an event that
expires needs no record. The local store has the events in another layout (`tables.velocity_histories`).

There is no index from a transaction's id to its time, although a correction names only the id. An index would double the records of the
changelog. Instead the first record of a customer reads its whole history, which the windows need anyway.
"""

import struct
from typing import Final

import msgspec

from app.domain.events import Event, Facts
from app.engine.table import DAY_MS, Table
from tables.encoding import BIAS

EventKey = tuple[int, int, int, int]
"""customer_id, event time in microseconds, account_id, transaction_id."""

_KEY: Final = struct.Struct(">QQQQ")


def event_key(key: EventKey) -> bytes:
    """Returns the same bytes as `number_key`, faster.

    >>> from tables.encoding import number_key
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
    "velocity",
    event_key,
    msgspec.msgpack.encode,
    msgspec.msgpack.Decoder(Facts).decode,
    retention_ms=31 * DAY_MS,
    is_stored=False,
)
