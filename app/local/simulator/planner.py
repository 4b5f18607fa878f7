"""Plans the simulated bank's works. The planner is pure: the same seed, bank and rate give the same plan."""

import heapq
from dataclasses import dataclass
from random import Random
from typing import Final

from app.domain.money import to_decimal
from app.local.simulator.bank_state import SHARDS, BankState
from app.local.simulator.customer_lifecycle import CustomerLifecycle, Ids
from app.local.simulator.errors import SimulationError
from app.local.simulator.fraud import Fraud, FraudInjector
from app.local.simulator.payments import Payment, ordinary, payday
from app.local.simulator.statements import DELETE_TRANSACTION, MOVE_BALANCE, REVERSE, SETTLE, Statement, Work

SETTLES_AFTER_S: Final = (1.5, 6.0)
SETTLEMENT_INTERVAL_S: Final = 1.0
REVERSED: Final = 0.02
REVERSES_AFTER_S: Final = (8.0, 40.0)
ROLLED_BACK: Final = 0.01
MISTAKES: Final = 0.008
"""Share of transfers, salaries and cash withdrawals that are deleted again."""
MISTAKE_AFTER_S: Final = (3.0, 20.0)
PAYDAY: Final = 0.01
"""Share of SQL transactions in which an employer pays several people."""
PAYDAY_ROWS: Final = 6


@dataclass(frozen=True, slots=True)
class BookedPayment:
    """A transaction that is still to be settled, reversed or deleted."""

    transaction_id: int
    account_id: int
    shard: int
    signed_minor: int


class Planner:
    """An endless plan. Its clock, in seconds, is the number of transactions so far divided by the rate."""

    def __init__(self, random: Random, bank: BankState, ids: Ids, *, rate: float, fraud_rate: float) -> None:
        """`fraud_rate` is the number of frauds begun per call of `plan`; `rate` is transactions per second."""
        self._random, self._bank, self._ids = random, bank, ids
        self._rate, self._fraud_rate = rate, fraud_rate
        self._frauds = FraudInjector(random, bank)
        self._lifecycle = CustomerLifecycle(random, bank, ids, self._frauds.victims)
        self._inserted = 0
        self._pending: tuple[list[tuple[float, int, BookedPayment]], ...] = tuple([] for _ in range(SHARDS))
        self._settled_s = [SETTLEMENT_INTERVAL_S * shard / SHARDS for shard in range(SHARDS)]
        self._later: list[tuple[float, int, str, BookedPayment]] = []

    def plan(self, room: int) -> list[Work]:
        """Returns the next works: the follow-ups that are due, and one work with 1 to `room` new transactions."""
        now_s = self._inserted / self._rate
        works = [*self._settlements(now_s), *self._corrections(now_s), *self._lifecycle.next_works()]
        if self._random.random() < ROLLED_BACK and (doubtful := ordinary(self._random, self._bank, 1)):
            customer, payments = doubtful
            statements = payments[0].statements(self._ids.transaction())
            works.append(Work(customer.shard, tuple(statements), rolled_back=True))
        if self._random.random() < self._fraud_rate:
            self._frauds.begin(now_s)
        main = self._payments(now_s, room)
        self._inserted += main.inserted
        return [*works, main]

    def _payments(self, now_s: float, room: int) -> Work:
        if (due := self._frauds.due(now_s)) is not None:
            fraud, payment = due
            return self._book(now_s, fraud.customer.shard, [payment], fraud)
        if room >= PAYDAY_ROWS and self._random.random() < PAYDAY:
            shard = self._random.randrange(SHARDS)
            if paid := payday(self._random, self._bank, shard, PAYDAY_ROWS):
                return self._book(now_s, shard, paid, None)
        found = ordinary(self._random, self._bank, room)
        if found is None:
            raise SimulationError(
                "the simulated bank has no customer with an active account left. Start with more customers, for example --customers 100"
            )
        customer, payments = found
        return self._book(now_s, customer.shard, payments, None)

    def _book(self, now_s: float, shard: int, payments: list[Payment], fraud: Fraud | None) -> Work:
        statements: list[Statement] = []
        begins = fraud is not None and not fraud.name
        for payment in payments:
            transaction_id = self._ids.transaction()
            statements += payment.statements(transaction_id)
            if fraud is not None:
                statements.append(fraud.label(transaction_id))
            payment.account.transactions += 1
            payment.account.balance_minor += payment.signed_minor
            booked = BookedPayment(transaction_id, payment.account.account_id, shard, payment.signed_minor)
            self._follow_up(now_s, payment, booked, ordinary=fraud is None)
        return Work(shard, tuple(statements), inserted=len(payments), frauds=int(begins))

    def _follow_up(self, now_s: float, payment: Payment, booked: BookedPayment, *, ordinary: bool) -> None:
        if payment.status == "pending":
            due_s = now_s + self._random.uniform(*SETTLES_AFTER_S)
            heapq.heappush(self._pending[booked.shard], (due_s, booked.transaction_id, booked))
            if self._random.random() < REVERSED:
                self._plan_later(now_s + self._random.uniform(*REVERSES_AFTER_S), "reverse", booked)
        elif ordinary and self._random.random() < MISTAKES:
            self._plan_later(now_s + self._random.uniform(*MISTAKE_AFTER_S), "delete", booked)

    def _plan_later(self, due_s: float, what: str, booked: BookedPayment) -> None:
        heapq.heappush(self._later, (due_s, booked.transaction_id, what, booked))

    def _settlements(self, now_s: float) -> list[Work]:
        """Returns the works that post pending transactions, in groups as banks do."""
        works = []
        for shard, pending in enumerate(self._pending):
            if now_s < self._settled_s[shard] + SETTLEMENT_INTERVAL_S:
                continue
            self._settled_s[shard] = now_s
            due: list[int] = []
            while pending and pending[0][0] <= now_s:
                booked = heapq.heappop(pending)[2]
                if booked.account_id in self._bank.accounts:
                    due.append(booked.transaction_id)
            if due:
                works.append(Work(shard, (Statement(SETTLE, (sorted(due),)),)))
        return works

    def _corrections(self, now_s: float) -> list[Work]:
        works = []
        while self._later and self._later[0][0] <= now_s:
            _, _, what, booked = heapq.heappop(self._later)
            account = self._bank.accounts.get(booked.account_id)
            if account is None:
                continue
            kind = REVERSE if what == "reverse" else DELETE_TRANSACTION
            statements = [Statement(kind, (booked.transaction_id,))]
            if booked.signed_minor:
                account.balance_minor -= booked.signed_minor
                statements.append(Statement(MOVE_BALANCE, (to_decimal(-booked.signed_minor), booked.account_id)))
            works.append(Work(booked.shard, tuple(statements)))
        return works
