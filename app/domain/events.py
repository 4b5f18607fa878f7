"""Reduces a transaction to the compact event that windows and rules use, and defines which statuses count.

Pending and posted transactions count. A transaction with an unknown status counts too: money is moving. A declined transaction counts
only in `declined_count`. Reversed and deleted transactions do not count.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from app.domain.money import to_minor
from app.domain.records import TransactionRecord
from app.domain.times import parse_us
from app.domain.window_aggregates import Key

PENDING, POSTED, REVERSED, DECLINED, OTHER, REMOVED = range(6)
"""Codes of `Facts.status`. REMOVED: the transaction is deleted; its event stays because it lists the rules that fired on it."""
STATUSES: Final = {"pending": PENDING, "posted": POSTED, "reversed": REVERSED, "declined": DECLINED}
COUNTED: Final = frozenset({PENDING, POSTED, OTHER})

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1


class Facts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The stored value of an event; its key is stored separately. Append new fields at the end, with a default: old entries lack them."""

    amount_minor: int
    currency: str
    credit: bool
    status: int
    counterparty: int
    """A 64-bit hash of the counterparty's account; 0 for none. Two of a customer's counterparties collide with a chance below 1 in 10^9."""
    country: str | None
    lsn: int | None
    partition: int
    offset: int
    """Partition and offset of the raw change that this event comes from."""
    fired: tuple[str, ...] = ()
    """Ids of the rules that have fired on this transaction."""

    @property
    def kind(self) -> str:
        """The transaction's type."""
        return "credit" if self.credit else "debit"

    @property
    def counted(self) -> bool:
        """Whether counts and sums include the transaction."""
        return self.status in COUNTED

    @property
    def window_values(self) -> tuple[object, ...]:
        """The fields that windows depend on: two events of equal time and equal `window_values` give the same windows."""
        status = POSTED if self.status in COUNTED else self.status
        return self.amount_minor, self.currency, self.credit, status, self.counterparty, self.country


class Event(msgspec.Struct, frozen=True, gc=False):
    """A transaction in a customer's history. Its identity is (account, transaction); its time may be corrected."""

    time_us: int
    account_id: int
    transaction_id: int
    facts: Facts

    @property
    def key(self) -> Key:
        """The sort key of the event in the customer's history."""
        return self.time_us, self.account_id, self.transaction_id


def event_of(record: TransactionRecord) -> Event:
    """Returns the compact event of a transaction. Raises ValueError, naming the field, for an invalid time, amount or 64-bit number."""
    source = record.source
    customer_id, account_id, transaction_id = record.customer_id, record.account_id, record.transaction_id
    lsn, partition, offset = source.lsn, source.partition, source.offset
    numbers = (customer_id, account_id, transaction_id, lsn or 0, partition, offset)
    if min(numbers) < _INT64_MIN or max(numbers) > _INT64_MAX:
        names = ("customer_id", "account_id", "transaction_id", "source.lsn", "source.partition", "source.offset")
        name, number = next(it for it in zip(names, numbers, strict=True) if not _INT64_MIN <= it[1] <= _INT64_MAX)
        raise ValueError(f"{name} {number} does not fit in 64 bits")
    counterparty = record.counterparty_account
    return Event(  # positional arguments: keyword arguments take twice the time
        instant_us("booked_at", record.booked_at),
        account_id,
        transaction_id,
        Facts(
            _minor("amount", record.amount),
            record.currency,
            record.type == "credit",
            STATUSES.get(record.status, OTHER),
            _hash(counterparty) if counterparty else 0,
            record.country_code or None,
            lsn,
            partition,
            offset,
        ),
    )


def instant_us(name: str, text: str) -> int:
    """Returns the instant in microseconds since the epoch. Raises ValueError, naming the field, if `text` is not an instant."""
    try:
        return parse_us(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} is not an instant: {error}") from None


def _minor(name: str, text: str) -> int:
    try:
        return to_minor(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


@lru_cache(maxsize=65_536)
def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1


@dataclass(frozen=True, slots=True, eq=False)
class AmountFilter:
    """Selects the amounts of counted events of these types, in [at_least, at_most] (minor units). Histories index them for a rule.

    Compared and hashed by identity, because that is fastest.
    """

    types: frozenset[str]
    at_least_minor: int = -(1 << 62)
    at_most_minor: int = 1 << 62

    def matches(self, facts: Facts) -> bool:
        """Returns whether the filter selects the event's amount. Does not test the status."""
        return self.at_least_minor <= facts.amount_minor <= self.at_most_minor and facts.kind in self.types


ALL_AMOUNTS: Final = AmountFilter(frozenset({"credit", "debit"}))
