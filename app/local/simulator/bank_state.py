"""Holds the simulated bank's customers and accounts, and draws the next customer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from app.local.simulator.reference_data import City

SHARDS: Final = 4
"""The number of connections. One connection writes all rows of a customer, so that their order is the plan's."""
SKEW: Final = 1.1
"""Makes earlier customers a little more active: the first hundredth makes about 1.5 % of the payments."""


@dataclass(slots=True)
class Account:
    """An account in the state that the plan assumes."""

    account_id: int
    customer_id: int
    currency: str
    status: str
    balance_minor: int
    transactions: int = 0

    @property
    def number(self) -> str:
        """The account number that a transfer names."""
        return f"BANK{self.account_id:012d}"


@dataclass(slots=True)
class Customer:
    """A customer that has not been deleted."""

    customer_id: int
    city: City
    risk_rating: str
    kyc_status: str
    accounts: list[Account] = field(default_factory=list)

    @property
    def shard(self) -> int:
        """The connection that writes all rows of this customer."""
        return self.customer_id % SHARDS

    @property
    def active(self) -> list[Account]:
        """The accounts that can pay and be paid."""
        return [account for account in self.accounts if account.status == "active"]

    @property
    def transactions(self) -> int:
        """The number of transactions of all accounts."""
        return sum(account.transactions for account in self.accounts)


class BankState:
    """All customers that have not been deleted. Draws depend on their order of arrival, so equal histories give equal draws."""

    def __init__(self) -> None:
        self._pools: tuple[list[Customer], ...] = tuple([] for _ in range(SHARDS))
        self._places: dict[int, int] = {}
        self.accounts: dict[int, Account] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Customer]:
        for pool in self._pools:
            yield from pool

    def add(self, customer: Customer) -> None:
        """Add a customer with its accounts."""
        pool = self._pools[customer.shard]
        self._places[customer.customer_id] = len(pool)
        pool.append(customer)
        self.accounts.update({account.account_id: account for account in customer.accounts})

    def open(self, customer: Customer, account: Account) -> None:
        """Add an account to a customer."""
        customer.accounts.append(account)
        self.accounts[account.account_id] = account

    def remove_account(self, customer: Customer, account: Account) -> None:
        """Remove an account."""
        customer.accounts.remove(account)
        del self.accounts[account.account_id]

    def remove(self, customer: Customer) -> None:
        """Remove a customer and all its accounts."""
        for account in list(customer.accounts):
            self.remove_account(customer, account)
        pool = self._pools[customer.shard]
        place = self._places.pop(customer.customer_id)
        last = pool.pop()
        if last is not customer:
            pool[place] = last
            self._places[last.customer_id] = place

    def of(self, account: Account) -> Customer:
        """Returns the customer of an account."""
        return self._pools[account.customer_id % SHARDS][self._places[account.customer_id]]

    def draw(self, random: Random, shard: int | None = None) -> Customer | None:
        """Returns a random customer, the more active ones more often; None if there is none (in the shard, if one is given)."""
        pool: Sequence[Customer] = self._pools[random.randrange(SHARDS) if shard is None else shard]
        if not pool:
            pool = next((other for other in self._pools if other), ()) if shard is None else ()
        return pool[int(len(pool) * random.random() ** SKEW)] if pool else None
