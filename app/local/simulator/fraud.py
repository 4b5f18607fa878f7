"""Plans fraudulent payments among the ordinary ones, and labels each of their transactions.

| pattern        | what happens                                                                                            |
|----------------|---------------------------------------------------------------------------------------------------------|
| card_testing   | three to five payments of at most 2.00 within a minute, then one of 150 or more                         |
| velocity_burst | 16 to 24 payments within 40 seconds                                                                     |
| large_amount   | a transfer of 12,000 or more to a new payee, about a hundred times the customer's other payments        |
"""

import heapq
from dataclasses import dataclass, field
from random import Random
from typing import Final

from app.local.simulator.bank_state import Account, BankState, Customer
from app.local.simulator.payments import Payment
from app.local.simulator.reference_data import WEB_SHOPS, merchant_id
from app.local.simulator.statements import INSERT_LABEL, Statement

PATTERNS: Final = ("card_testing", "velocity_burst", "large_amount")
CANDIDATES: Final = 60
PAST_VICTIMS: Final = 10_000


@dataclass(order=True, slots=True)
class _Planned:
    due_s: float
    number: int
    fraud: "Fraud" = field(compare=False)
    payment: Payment = field(compare=False)


@dataclass(slots=True)
class Fraud:
    """One fraud in progress. Its first transaction gives it its name."""

    pattern: str
    customer: Customer
    account: Account
    left: int
    name: str = ""

    def label(self, transaction_id: int) -> Statement:
        """Returns the label of its next transaction."""
        self.name = self.name or f"{self.pattern}:{transaction_id}"
        self.left -= 1
        return Statement(
            INSERT_LABEL,
            (
                transaction_id,
                self.pattern,
                self.name,
                self.customer.customer_id,
                self.account.account_id,
                self.left == 0,
            ),
        )


class FraudInjector:
    """All frauds in progress. Times are seconds on the plan's clock."""

    def __init__(self, random: Random, bank: BankState) -> None:
        self._random, self._bank = random, bank
        self._planned: list[_Planned] = []
        self._numbers = 0
        self._past: dict[int, None] = {}
        self.victims: set[int] = set()
        """Customers with a fraud in progress. They neither close accounts nor leave."""

    def begin(self, now_s: float) -> bool:
        """Plan one more fraud. Returns False if there is no suitable customer; the last PAST_VICTIMS victims are not."""
        pattern = PATTERNS[self._random.randrange(len(PATTERNS))]
        customer = self._victim(pattern)
        if customer is None:
            return False
        self._past[customer.customer_id] = None
        if len(self._past) > PAST_VICTIMS:
            del self._past[next(iter(self._past))]
        self.victims.add(customer.customer_id)
        account = customer.active[0]
        payments = {"card_testing": self._card_testing, "velocity_burst": self._burst, "large_amount": self._large}[
            pattern
        ](account)
        fraud = Fraud(pattern, customer, account, left=len(payments))
        for after_s, payment in payments:
            self._numbers += 1
            heapq.heappush(self._planned, _Planned(now_s + after_s, self._numbers, fraud, payment))
        return True

    def due(self, now_s: float) -> tuple[Fraud, Payment] | None:
        """Removes the next payment that is due from the plan and returns it; None if none is due."""
        if not self._planned or self._planned[0].due_s > now_s:
            return None
        planned = heapq.heappop(self._planned)
        if planned.fraud.left == 1:
            self.victims.discard(planned.fraud.customer.customer_id)
        return planned.fraud, planned.payment

    def _victim(self, pattern: str) -> Customer | None:
        """Returns a suitable customer. For a large amount it is the most active of a few, because the rule needs a payment history."""
        drawn = (self._bank.draw(self._random) for _ in range(CANDIDATES))
        fit = [
            customer for customer in drawn if customer and customer.active and customer.customer_id not in self._past
        ]
        if not fit:
            return None
        return max(fit, key=lambda customer: customer.transactions) if pattern == "large_amount" else fit[0]

    def _stolen(self, account: Account, amount_minor: int, device: str) -> Payment:
        trade = self._random.choice(WEB_SHOPS)
        return Payment(
            account=account,
            amount_minor=amount_minor,
            credit=False,
            channel="online",
            status="pending",
            merchant=merchant_id(self._random, trade),
            category=trade.category,
            country_code=self._bank.of(account).city.country_code,
            device=device,
            description=trade.label,
        )

    def _card_testing(self, account: Account) -> list[tuple[float, Payment]]:
        device, after_s, planned = self._device(), 0.0, []
        for _ in range(self._random.randint(3, 5)):
            planned.append((after_s, self._stolen(account, self._random.randint(50, 200), device)))
            after_s += self._random.uniform(0.5, 4)
        planned.append((after_s, self._stolen(account, self._random.randint(15_000, 90_000), device)))
        return planned

    def _burst(self, account: Account) -> list[tuple[float, Payment]]:
        device, after_s, planned = self._device(), 0.0, []
        for _ in range(self._random.randint(16, 24)):
            planned.append((after_s, self._stolen(account, self._random.randint(800, 12_000), device)))
            after_s += self._random.uniform(0.3, 1.6)
        return planned

    def _large(self, account: Account) -> list[tuple[float, Payment]]:
        payment = Payment(
            account=account,
            amount_minor=self._random.randint(1_200_000, 4_800_000),
            credit=False,
            channel="transfer",
            counterparty=f"EXT{self._random.randrange(10**12):012d}",
            country_code=self._bank.of(account).city.country_code,
            device=self._device(),
            description="investment",
        )
        return [(0.0, payment)]

    def _device(self) -> str:
        return f"X{self._random.randrange(16**8):08x}"
