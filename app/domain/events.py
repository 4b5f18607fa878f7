"""Reduces a transaction to the compact event that windows and rules use, and defines which statuses count.

Pending and posted transactions count. A transaction with an unknown status counts too: money is moving. A declined transaction counts
only in `declined_count`. Reversed and deleted transactions do not count.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

Key = tuple[int, int, int]
"""(event time, account, transaction): the sort key of an event in its customer's history."""

PENDING, POSTED, REVERSED, DECLINED, OTHER, REMOVED = range(6)
"""Codes of `Facts.status`. REMOVED: the transaction is deleted; its event stays because it lists the rules that fired on it."""
COUNTED: Final = frozenset({PENDING, POSTED, OTHER})


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
