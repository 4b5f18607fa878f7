"""What the simulated bank knows of its customers: those who live, their accounts, and who is drawn next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from app.local.simulator.reference_data import City

SHARDS: Final = 4
"""Connections of the simulated bank. A customer's rows are all written by one, so their order is that of the plan."""
SKEW: Final = 1.1
"""Early customers are a little busier: the first hundredth makes about 1.5 % of the payments."""


@dataclass(slots=True)
class Account:
    """An account as the bank's software believes it to be."""

    account_id: int
    customer_id: int
    currency: str
    status: str
    balance_minor: int
    transactions: int = 0

    @property
    def number(self) -> str:
        """How others write it on a transfer."""
        return f"BANK{self.account_id:012d}"


@dataclass(slots=True)
class Customer:
    """A living customer."""

    customer_id: int
    city: City
    risk_rating: str
    kyc_status: str
    accounts: list[Account] = field(default_factory=list)

    @property
    def shard(self) -> int:
        """The connection that writes everything of this customer."""
        return self.customer_id % SHARDS

    @property
    def active(self) -> list[Account]:
        """Accounts that can be paid from and to."""
        return [account for account in self.accounts if account.status == "active"]

    @property
    def transactions(self) -> int:
        """Of all accounts."""
        return sum(account.transactions for account in self.accounts)


class BankState:
    """All living customers. The order in which they came decides who is drawn, so equal histories draw equal customers."""

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
        """A new customer, with the accounts it has."""
        pool = self._pools[customer.shard]
        self._places[customer.customer_id] = len(pool)
        pool.append(customer)
        self.accounts.update({account.account_id: account for account in customer.accounts})

    def open(self, customer: Customer, account: Account) -> None:
        """One more account."""
        customer.accounts.append(account)
        self.accounts[account.account_id] = account

    def remove_account(self, customer: Customer, account: Account) -> None:
        """The account is no more."""
        customer.accounts.remove(account)
        del self.accounts[account.account_id]

    def remove(self, customer: Customer) -> None:
        """The customer and all accounts are no more."""
        for account in list(customer.accounts):
            self.remove_account(customer, account)
        pool = self._pools[customer.shard]
        place = self._places.pop(customer.customer_id)
        last = pool.pop()
        if last is not customer:
            pool[place] = last
            self._places[last.customer_id] = place

    def of(self, account: Account) -> Customer:
        """The customer of an account."""
        return self._pools[account.customer_id % SHARDS][self._places[account.customer_id]]

    def draw(self, random: Random, shard: int | None = None) -> Customer | None:
        """Someone, busy ones more often; None only if nobody is there."""
        pool: Sequence[Customer] = self._pools[random.randrange(SHARDS) if shard is None else shard]
        if not pool:
            pool = next((other for other in self._pools if other), ()) if shard is None else ()
        return pool[int(len(pool) * random.random() ** SKEW)] if pool else None
