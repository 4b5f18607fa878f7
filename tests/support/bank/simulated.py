"""Sequence ids for a simulated bank without a database, and a fake database that enforces the real one's rules."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from app.local.simulator import statements as sql
from app.local.simulator.bank_state import BankState
from app.local.simulator.customer_lifecycle import new_account, new_customer
from app.local.simulator.planner import Planner
from app.local.simulator.statements import Work


class FakeSequenceIds:
    """Assigns ids of each kind from 1."""

    def __init__(self) -> None:
        self._customers, self._accounts, self._transactions = count(1), count(1), count(1)

    def customer(self) -> int:
        return next(self._customers)

    def account(self) -> int:
        return next(self._accounts)

    def transaction(self) -> int:
        return next(self._transactions)


@dataclass
class FakeDatabase:
    """Checks keys and references only. Raises AssertionError where PostgreSQL would raise an error."""

    customers: set[int] = field(default_factory=set)
    accounts: dict[int, int] = field(default_factory=dict)
    transactions: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    labels: list[tuple[Any, ...]] = field(default_factory=list)

    def apply(self, work: Work) -> None:
        if work.rolled_back:
            return
        for statement in work.statements:
            self._apply(statement.kind, statement.values)

    def _apply(self, kind: sql.StatementKind, values: tuple[Any, ...]) -> None:
        if kind is sql.INSERT_CUSTOMER:
            assert values[0] not in self.customers
            self.customers.add(values[0])
        elif kind is sql.INSERT_ACCOUNT:
            assert values[1] in self.customers
            self.accounts[values[0]] = values[1]
        elif kind is sql.INSERT_TRANSACTION:
            assert values[1] in self.accounts
            assert values[0] not in self.transactions
            self.transactions[values[0]] = values
        elif kind is sql.INSERT_LABEL:
            self.labels.append(values)
        elif kind in (sql.MOVE_BALANCE, sql.SET_ACCOUNT_STATUS):
            assert values[1] in self.accounts
        elif kind in (sql.MOVE_HOME, sql.CHANGE_EMAIL, sql.RATE_RISK, sql.CHECK_KYC):
            assert values[-1] in self.customers
        else:
            self._delete(kind, values)

    def _delete(self, kind: sql.StatementKind, values: tuple[Any, ...]) -> None:
        if kind is sql.DELETE_TRANSACTIONS_OF:
            gone = [number for number, row in self.transactions.items() if row[1] == values[0]]
            for number in gone:
                del self.transactions[number]
        elif kind is sql.DELETE_TRANSACTION:
            self.transactions.pop(values[0])
        elif kind is sql.DELETE_ACCOUNT:
            assert all(row[1] != values[0] for row in self.transactions.values())
            del self.accounts[values[0]]
        elif kind is sql.DELETE_CUSTOMER:
            assert values[0] not in self.accounts.values()
            self.customers.remove(values[0])


def populated(random: Random, numbers: FakeSequenceIds, customers: int, database: FakeDatabase) -> BankState:
    """A bank with this number of customers, with two accounts each, in memory and in the fake database."""
    bank = BankState()
    for _ in range(customers):
        customer, _ = new_customer(random, numbers)
        database.customers.add(customer.customer_id)
        for _ in range(2):
            account, _ = new_account(random, numbers, customer)
            customer.accounts.append(account)
            database.accounts[account.account_id] = customer.customer_id
        bank.add(customer)
    return bank


def planned(
    seed: int, transactions: int, *, rate: float = 50, fraud_rate: float = 0.0, customers: int = 60
) -> tuple[list[tuple[float, Work]], FakeDatabase]:
    """A plan, and the database after it. The plan has each work with its time in seconds on the plan's clock."""
    random, numbers, database = Random(seed), FakeSequenceIds(), FakeDatabase()
    bank = populated(random, numbers, customers, database)
    planner = Planner(random, bank, numbers, rate=rate, fraud_rate=fraud_rate)
    works: list[tuple[float, Work]] = []
    inserted = 0
    while inserted < transactions:
        fresh = planner.plan(transactions - inserted)
        works += [(inserted / rate, work) for work in fresh]
        inserted += sum(work.inserted for work in fresh)
    run(database, (work for _, work in works))
    return works, database


def run(database: FakeDatabase, works: Iterable[Work]) -> None:
    """Applies all works."""
    for work in works:
        database.apply(work)
