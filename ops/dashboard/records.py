"""What the dashboard knows when it has asked: figures and rows, money as Decimal, times as naive UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Slice:
    """Booked in a slice from `at` on: pending or posted, as gold's volume_per_minute counts."""

    at: datetime
    currency: str
    type: Literal["credit", "debit"]
    count: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction as it is now."""

    transaction_id: int
    customer_id: int
    account_id: int
    type: str
    amount: Decimal
    currency: str
    status: str
    channel: str
    merchant_id: str
    country_code: str
    booked_at: datetime


@dataclass(frozen=True, slots=True)
class Live:
    """The last minutes."""

    slice_s: int
    began: datetime
    until: datetime
    """When the newest row that has landed was written: nothing is known of what comes after."""
    slices: tuple[Slice, ...]
    newest: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fired, and why."""

    alert_id: str
    rule: str
    severity: str
    score: str
    customer_id: int
    account_id: int
    transaction_id: int
    event_time: datetime
    detected_at: datetime
    explanation: str
    features: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How often a rule fired."""

    rule: str
    severity: str
    alerts: int


@dataclass(frozen=True, slots=True)
class Alerts:
    """Those of the last hours."""

    counts: tuple[RuleCount, ...]
    customers: int
    """How many they are about."""
    newest: tuple[Alert, ...]
    """At most MAX_ALERTS."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a customer. `changed` has column, old and new value."""

    valid_from: datetime
    valid_to: datetime | None
    reason: str
    close_reason: str | None
    changed: tuple[tuple[str, str, str], ...]
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Velocity:
    """What had been booked up to and including a transaction."""

    at: datetime
    currency: str
    """Of that transaction; sums are over those in it."""
    windows: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Customer:
    """Everything about one customer, newest first."""

    customer_id: int
    versions: tuple[Version, ...]
    transactions: tuple[Transaction, ...]
    alerts: tuple[Alert, ...]
    velocity: Velocity | None
    """At its last transaction."""


@dataclass(frozen=True, slots=True)
class TopicHealth:
    """Where a topic stands in the warehouse."""

    topic: str
    partitions: int
    records: int
    """Offsets passed by the ledger, over all partitions."""
    loaded_at: datetime | None
    newest_row: datetime | None
    """None: nothing in the last day."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """What was refused in the last day, by topic and reason."""

    topic: str
    reason: str
    count: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """The pipeline as the warehouse shows it."""

    topics: tuple[TopicHealth, ...]
    dead_letters: tuple[DeadLetters, ...]


@dataclass(frozen=True, slots=True)
class Total:
    """Volume of a day, merchant, country or segment, in one currency."""

    name: str
    credit_count: int
    debit_count: int
    credit_amount: Decimal
    debit_amount: Decimal


@dataclass(frozen=True, slots=True)
class History:
    """Volume between two days, in one currency."""

    totals: tuple[Total, ...]
    """Days in order, all else the largest first and what has no name last; at most MAX_DAYS or MAX_BARS."""
    groups: int
    """How many there are."""
    count: int
    credit_amount: Decimal
    debit_amount: Decimal
    """Count and amounts are of all of them."""
