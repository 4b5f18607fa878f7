"""Generates the payments of the bank's customers: the rows of each payment and its change of the balances."""

from dataclasses import dataclass
from random import Random
from typing import Final

from app.domain.money import to_decimal
from app.local.simulator.bank_state import Account, BankState, Customer
from app.local.simulator.reference_data import CITIES, SHOPS, WEB_SHOPS, City, Trade, amount_minor, merchant_id
from app.local.simulator.statements import INSERT_TRANSACTION, MOVE_BALANCE, Statement

ABROAD: Final = 0.03
"""Share of online purchases from a shop in another country."""
DECLINED: Final = 0.01
"""Share of payments that are declined for a reason that is not in the bank's data."""
LATE: Final = 0.005
"""Share of card payments that were made offline and arrive up to two hours later."""
LATE_S: Final = 7_200
CARD_DELAY_S: Final = 0.8
NEARBY_DEGREES: Final = 0.04
PAYEES: Final = 3
"""The number of accounts at other banks that a customer sends money to."""
SALARY_MINOR: Final = (60_000, 600_000)
LARGE: Final = 0.0005
"""Share of purchases that are large but legitimate. A rule that only tests the amount reports them falsely."""
LARGE_MINOR: Final = (60_000, 400_000)
CASH_MINOR: Final = (2_000, 4_000, 5_000, 10_000, 20_000)


@dataclass(frozen=True, slots=True)
class Payment:
    """One row of `transactions`, before it has an id. The amount is positive; `credit` gives its direction."""

    account: Account
    amount_minor: int
    credit: bool
    channel: str
    status: str = "posted"
    merchant: str | None = None
    category: str | None = None
    counterparty: str | None = None
    country_code: str | None = None
    latitude: str | None = None
    longitude: str | None = None
    device: str | None = None
    description: str | None = None
    age_s: float = 0.0
    """The age of the payment when its row is written, in seconds."""

    @property
    def signed_minor(self) -> int:
        """The change of the balance; 0 for a declined payment."""
        if self.status == "declined":
            return 0
        return self.amount_minor if self.credit else -self.amount_minor

    def statements(self, transaction_id: int) -> list[Statement]:
        """Returns the insert of the row and the update of the balance, if it changes."""
        row = Statement(
            INSERT_TRANSACTION,
            (
                transaction_id, self.account.account_id, "credit" if self.credit else "debit", to_decimal(self.amount_minor),
                self.account.currency, self.status, self.channel, self.merchant, self.category, self.counterparty,
                self.country_code, self.latitude, self.longitude, self.device, self.description, self.age_s,
            ),
        )  # fmt: skip
        if not self.signed_minor:
            return [row]
        return [row, Statement(MOVE_BALANCE, (to_decimal(self.signed_minor), self.account.account_id))]


def device(customer: Customer, number: int = 0) -> str:
    """Returns the id of one of the customer's devices."""
    return f"D{customer.customer_id:07x}{number}"


def payee(customer: Customer, number: int) -> str:
    """Returns one of the accounts at other banks that the customer sends money to."""
    return f"EXT{(customer.customer_id * 7_919 + number * 104_729) % 10**12:012d}"


def near(random: Random, city: City) -> tuple[str, str]:
    """Returns latitude and longitude of a place in the city, with six decimals."""
    return (
        f"{city.latitude + random.uniform(-NEARBY_DEGREES, NEARBY_DEGREES):.6f}",
        f"{city.longitude + random.uniform(-NEARBY_DEGREES, NEARBY_DEGREES):.6f}",
    )


def purchase(random: Random, customer: Customer, account: Account) -> Payment:
    """Returns a card payment in the customer's city or online."""
    trade = random.choice(WEB_SHOPS if random.random() < 0.2 else SHOPS)
    large = random.random() < LARGE
    amount = random.randint(*LARGE_MINOR) if large else amount_minor(random, trade.median_minor)
    return _card(random, customer, account, trade, amount)


def _card(random: Random, customer: Customer, account: Account, trade: Trade, amount: int) -> Payment:
    country, latitude, longitude, age = customer.city.country_code, None, None, random.uniform(0, CARD_DELAY_S)
    if trade.online:
        if random.random() < ABROAD:
            country = random.choice(CITIES).country_code
    else:
        latitude, longitude = near(random, customer.city)
        if random.random() < LATE:
            age = random.uniform(60, LATE_S)
    declined = amount > account.balance_minor or random.random() < DECLINED
    return Payment(
        account=account,
        amount_minor=amount,
        credit=False,
        channel="online" if trade.online else "card",
        status="declined" if declined else "pending",
        merchant=merchant_id(random, trade),
        category=trade.category,
        country_code=country,
        latitude=latitude,
        longitude=longitude,
        device=device(customer, random.randrange(2)),
        description=trade.label,
        age_s=round(age, 3),
    )


def cash(random: Random, customer: Customer, account: Account) -> Payment:
    """Returns a cash withdrawal from an ATM."""
    amount = random.choice(CASH_MINOR)
    latitude, longitude = near(random, customer.city)
    return Payment(
        account=account,
        amount_minor=amount,
        credit=False,
        channel="atm",
        status="declined" if amount > account.balance_minor else "posted",
        country_code=customer.city.country_code,
        latitude=latitude,
        longitude=longitude,
        device=f"ATM{random.randrange(400):04d}",
        description="cash withdrawal",
    )


def salary(random: Random, customer: Customer, account: Account, employer: int | None = None) -> Payment:
    """Returns a salary payment from an employer's account at another bank."""
    return Payment(
        account=account,
        amount_minor=round(random.triangular(*SALARY_MINOR, 180_000)),
        credit=True,
        channel="transfer",
        counterparty=f"EMP{customer.customer_id % 97 if employer is None else employer:012d}",
        country_code=customer.city.country_code,
        description="salary",
    )


def payday(random: Random, bank: BankState, shard: int, rows: int) -> list[Payment]:
    """Returns the salaries that an employer pays in one SQL transaction: up to `rows` rows."""
    employer = random.randrange(97)
    paid = {
        customer.customer_id: customer
        for _ in range(rows)
        if (customer := bank.draw(random, shard)) is not None and customer.active
    }
    return [salary(random, customer, customer.active[0], employer) for customer in paid.values()]


def bill(random: Random, customer: Customer, account: Account) -> Payment:
    """Returns a transfer or direct debit to another bank."""
    amount = amount_minor(random, 7_500)
    return Payment(
        account=account,
        amount_minor=amount,
        credit=False,
        channel=random.choice(("transfer", "direct_debit")),
        status="declined" if amount > account.balance_minor else "posted",
        counterparty=payee(customer, random.randrange(PAYEES)),
        country_code=customer.city.country_code,
        device=device(customer),
        description=random.choice(("rent", "electricity", "insurance", "telephone", "invoice")),
    )


def transfer(random: Random, bank: BankState, customer: Customer, account: Account) -> list[Payment]:
    """Returns the two rows of a transfer to another account of this bank, in one SQL transaction.

    Returns none if the drawn payee has no account in this currency, or if the balance is too low.
    """
    amount = amount_minor(random, 5_000)
    other = bank.draw(random, customer.shard)
    target = next((found for found in (other.active if other else ()) if found.currency == account.currency), None)
    if target is None or target is account or amount > account.balance_minor:
        return []
    description = random.choice(("thanks!", "dinner", "shared flat", "present", ""))
    return [
        Payment(
            account=account,
            amount_minor=amount,
            credit=False,
            channel="transfer",
            counterparty=target.number,
            country_code=customer.city.country_code,
            device=device(customer),
            description=description,
        ),
        Payment(
            account=target,
            amount_minor=amount,
            credit=True,
            channel="transfer",
            counterparty=account.number,
            country_code=customer.city.country_code,
            description=description,
        ),
    ]


def ordinary(random: Random, bank: BankState, room: int) -> tuple[Customer, list[Payment]] | None:
    """Returns a customer and its next payment as at most `room` rows; None if no customer with an active account is found."""
    for _ in range(20):
        customer = bank.draw(random)
        active = customer.active if customer else []
        if customer is not None and active:
            break
    else:
        return None
    account = random.choice(active)
    kind = random.random()
    if kind < 0.08 and room > 1 and (rows := transfer(random, bank, customer, account)):
        return customer, rows
    if kind < 0.16:
        return customer, [bill(random, customer, account)]
    if kind < 0.22:
        return customer, [cash(random, customer, account)]
    if kind < 0.28 or account.balance_minor < 10_000:
        return customer, [salary(random, customer, account)]
    return customer, [purchase(random, customer, account)]
