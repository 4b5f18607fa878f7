"""Defines the records of the derived topics and their keys.

Field names are a contract with consumers. Money is decimal strings, times are RFC 3339 UTC.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

Attributes = dict[str, Any]
"""Every column of a row as the source sent it: strings, numbers, booleans, null. NUMERIC columns are decimal strings."""


class Source(msgspec.Struct, frozen=True, gc=False):
    """The change that a derived record comes from. `commit_time` is the source transaction's; `lsn` and `tx_id` are PostgreSQL's."""

    topic: str
    partition: int
    offset: int
    lsn: int | None
    tx_id: int | None
    commit_time: str


OpenReason = Literal["created", "updated", "revived", "key_changed", "resnapshot"]
CloseReason = Literal["superseded", "deleted", "key_changed", "truncated", "vanished"]
"""`vanished`: a snapshot or an insert of the same key shows that the row was deleted; the log did not give the time of its deletion."""


class Scd2Open(msgspec.Struct, frozen=True, tag_field="op", tag="open"):
    """Opens a version. It is valid from `valid_from` until the `Scd2Close` of the same `version_id`."""

    version_id: str
    key: Attributes
    valid_from: str
    attributes: Attributes
    changed: list[str]
    reason: OpenReason
    source: Source
    valid_to: None = None
    previous_key: Attributes | None = None
    """The key this row had before, when its primary key changed."""


class Scd2Close(msgspec.Struct, frozen=True, tag_field="op", tag="close"):
    """Closes a version: it is valid in [valid_from, valid_to)."""

    version_id: str
    key: Attributes
    valid_from: str
    valid_to: str
    reason: CloseReason
    source: Source
    next_key: Attributes | None = None
    """The key this row has after its primary key changed."""


Scd2Record = Scd2Open | Scd2Close


class TransactionRecord(msgspec.Struct, frozen=True, gc=False):
    """A change of a transaction, joined to its account as of that moment. `account` is the account's row without its key columns.

    With `op` deleted, the fields are those of the row before its deletion.
    """

    op: Literal["created", "updated", "deleted"]
    transaction_id: int
    account_id: int
    customer_id: int
    type: Literal["credit", "debit"]
    amount: str
    currency: str
    status: str
    channel: str | None
    merchant_id: str | None
    merchant_category: str | None
    counterparty_account: str | None
    country_code: str | None
    latitude: str | None
    longitude: str | None
    device_id: str | None
    description: str | None
    booked_at: str
    created_at: str | None
    account: Attributes
    source: Source


class Window(msgspec.Struct, frozen=True, gc=False):
    """Aggregates of a customer's transactions in (t - length, t], including the one at t. Amounts are those in its currency."""

    count: int
    sum: str
    average: str
    max: str
    distinct_counterparties: int
    distinct_countries: int
    declined_count: int


WINDOWS_US: Final = {
    "1m": 60_000_000,
    "5m": 300_000_000,
    "1h": 3_600_000_000,
    "24h": 86_400_000_000,
    "7d": 604_800_000_000,
    "30d": 2_592_000_000_000,
}
"""Window names and lengths in microseconds."""


class VelocityRecord(msgspec.Struct, frozen=True, gc=False):
    """The customer's windows that end at one transaction."""

    customer_id: int
    account_id: int
    transaction_id: int
    event_time: str
    currency: str
    windows: dict[str, Window]
    seconds_since_previous: float | None
    source: Source


class Evidence(msgspec.Struct, frozen=True):
    """The position of a raw change that an alert is based on."""

    topic: str
    partition: int
    offset: int


class AlertRecord(msgspec.Struct, frozen=True):
    """A rule fired on a transaction. `alert_id` depends only on the rule and the transaction."""

    alert_id: str
    rule: str
    severity: Literal["low", "medium", "high", "critical"]
    score: str
    customer_id: int
    account_id: int
    transaction_id: int
    event_time: str
    detected_at: str
    features: dict[str, Any]
    explanation: str
    evidence: list[Evidence]
    source: Source


CommandKind = Literal["truncate", "snapshot"]


class TableCommand(msgspec.Struct, frozen=True):
    """A command about a whole table, sent to every partition.

    `truncate`: close the versions of `table` whose lsn is below that of `source`. `snapshot`: `source` is the last row of a snapshot
    of `table`; once the whole snapshot is processed, close the versions of the rows that it does not contain.
    """

    kind: CommandKind = msgspec.field(name="order")
    table: str
    source: Source
    recorded_ms: int = 0
    """Kafka's timestamp of the record at `source`."""


encode: Final[Callable[[msgspec.Struct], bytes]] = msgspec.json.Encoder().encode
"""Encodes a record as JSON."""


def key_of(columns: Mapping[str, Any]) -> bytes:
    """Returns the record key of any columns, as JSON.

    >>> key_of({"branch": "Zürich", "number": 7}).decode()
    '{"branch":"Zürich","number":7}'
    """
    return msgspec.json.encode(columns)


def key_bytes(column: str, value: int) -> bytes:
    """Returns a key exactly as Debezium's JSON converter writes it, so that records of one entity go to one partition.

    >>> key_bytes("customer_id", 42)
    b'{"customer_id":42}'
    """
    return b'{"%s":%d}' % (column.encode(), value)


@lru_cache(maxsize=65_536)
def plain_id(key: bytes, column: str) -> int | None:
    """Returns the 64-bit number in a key that has the form of `key_bytes`; None for any other key.

    >>> plain_id(b'{"customer_id":42}', "customer_id"), plain_id(b'{"customer_id": 42}', "customer_id")
    (42, None)
    """
    try:
        value = int(key[len(column) + 4 : -1])
    except ValueError:
        return None
    return value if key == key_bytes(column, value) and -(1 << 63) <= value < 1 << 63 else None
