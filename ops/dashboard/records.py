"""Defines the query results of the dashboard: figures and rows, with money as Decimal and times as naive UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Slice:
    """The transactions booked in a time slice that begins at `at`: pending or posted, as in gold's volume_per_minute."""

    at: datetime
    currency: str
    type: Literal["credit", "debit"]
    count: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Transaction:
    """The current state of a transaction."""

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
    """The transactions of the last minutes."""

    slice_s: int
    began: datetime
    until: datetime
    """The time at which the newest landed row was written. Later transactions have not landed yet."""
    slices: tuple[Slice, ...]
    newest: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: the rule that fired, and its explanation."""

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
    """The number of alerts of a rule."""

    rule: str
    severity: str
    alerts: int


@dataclass(frozen=True, slots=True)
class Alerts:
    """The alerts of the last hours."""

    counts: tuple[RuleCount, ...]
    customers: int
    """The number of customers with an alert."""
    newest: tuple[Alert, ...]
    """At most MAX_ALERTS."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a customer. `changed` has the column, the old value and the new value of each change."""

    valid_from: datetime
    valid_to: datetime | None
    reason: str
    close_reason: str | None
    changed: tuple[tuple[str, str, str], ...]
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Velocity:
    """The velocity windows up to and including a transaction."""

    at: datetime
    currency: str
    """The currency of that transaction. Sums include only transactions in it."""
    windows: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer: versions, transactions and alerts, the newest first."""

    customer_id: int
    versions: tuple[Version, ...]
    transactions: tuple[Transaction, ...]
    alerts: tuple[Alert, ...]
    velocity: Velocity | None
    """The velocity at its last transaction."""


@dataclass(frozen=True, slots=True)
class TopicHealth:
    """The loading state of a topic in the warehouse."""

    topic: str
    partitions: int
    records: int
    """The number of offsets that the ledger has passed, over all partitions."""
    loaded_at: datetime | None
    newest_row: datetime | None
    """None: no row in the last day."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters of the last day, by topic and reason."""

    topic: str
    reason: str
    count: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the pipeline as the warehouse shows it."""

    topics: tuple[TopicHealth, ...]
    dead_letters: tuple[DeadLetters, ...]


@dataclass(frozen=True, slots=True)
class Total:
    """The volume of a day, merchant, country or segment, in one currency."""

    name: str
    credit_count: int
    debit_count: int
    credit_amount: Decimal
    debit_amount: Decimal


@dataclass(frozen=True, slots=True)
class History:
    """The volume between two days, in one currency."""

    totals: tuple[Total, ...]
    """Days in order; other groups by volume, the largest first and the one without a name last. At most MAX_DAYS or MAX_BARS."""
    groups: int
    """The number of all groups."""
    count: int
    credit_amount: Decimal
    debit_amount: Decimal
    """Count and amounts cover all groups."""
