"""Plans the changes of customers and accounts other than payments: arrivals, moves, ratings, closures and deletions."""

from random import Random
from typing import Final, Protocol

from app.domain.money import to_decimal
from app.local.simulator import reference_data
from app.local.simulator.bank_state import Account, BankState, Customer
from app.local.simulator.statements import (
    CHANGE_EMAIL,
    CHECK_KYC,
    DELETE_ACCOUNT,
    DELETE_CUSTOMER,
    DELETE_TRANSACTIONS_OF,
    INSERT_ACCOUNT,
    INSERT_CUSTOMER,
    MOVE_HOME,
    RATE_RISK,
    SET_ACCOUNT_STATUS,
    Statement,
    Work,
)

ACCOUNT_TYPES: Final = ("checking", "checking", "checking", "savings", "credit_card", "business")
FEWEST_CUSTOMERS: Final = 20
"""With fewer customers than this, none leaves."""
MOST_DELETED: Final = 12
"""An account with more transactions than this is never deleted."""
TRIES: Final = 20
RATINGS: Final = ("low", "medium", "high")


class Ids(Protocol):
    """Allocates new ids from the database's sequences, in the order of the calls."""

    def customer(self) -> int:
        """Returns the next customer id."""
        ...

    def account(self) -> int:
        """Returns the next account id."""
        ...

    def transaction(self) -> int:
        """Returns the next transaction id."""
        ...


def new_customer(random: Random, ids: Ids) -> tuple[Customer, tuple[object, ...]]:
    """Returns a customer without accounts, and the values for INSERT_CUSTOMER."""
    customer_id, city = ids.customer(), random.choice(reference_data.CITIES)
    rating = RATINGS[min(int(random.expovariate(1.6)), 2)]
    kyc = "verified" if random.random() < 0.93 else "pending"
    row = (
        customer_id, reference_data.full_name(random), reference_data.email(random, customer_id) if random.random() < 0.97 else None,
        reference_data.phone(random, city), f"{random.randrange(1940, 2007)}-{random.randrange(1, 13):02d}-{random.randrange(1, 29):02d}",
        reference_data.address_line(random), city.name, city.country_code, kyc, rating,
    )  # fmt: skip
    return Customer(customer_id, city, rating, kyc), row


def new_account(random: Random, ids: Ids, customer: Customer) -> tuple[Account, tuple[object, ...]]:
    """Returns an account with a balance, and the values for INSERT_ACCOUNT. A customer's first account is a checking account."""
    kind = random.choice(ACCOUNT_TYPES) if customer.accounts else "checking"
    currency = customer.city.currency if random.random() < 0.95 else "USD"
    balance = round(random.lognormvariate(12.3, 0.8))
    account = Account(ids.account(), customer.customer_id, currency, "active", balance)
    return account, (account.account_id, customer.customer_id, kind, currency, "active", to_decimal(balance))


class CustomerLifecycle:
    """Generates events of customers and accounts, each as one unit of work. Leaves out the customers in `busy`."""

    def __init__(self, random: Random, bank: BankState, ids: Ids, busy: set[int]) -> None:
        self._random, self._bank, self._ids, self._busy = random, bank, ids, busy
        self._events = (
            (0.004, self._moves),
            (0.004, self._changes_email),
            (0.003, self._is_rated),
            (0.002, self._is_checked),
            (0.008, self._comes),
            (0.004, self._opens),
            (0.003, self._closes),
            (0.002, self._freezes),
            (0.0015, self._deletes_account),
            (0.0015, self._leaves),
        )

    def next_works(self) -> list[Work]:
        """Returns the events that accompany one planning step. Each event has its own probability."""
        works = (event() for chance, event in self._events if self._random.random() < chance)
        return [work for work in works if work is not None]

    def _somebody(self) -> Customer | None:
        customer = self._bank.draw(self._random)
        return None if customer is None or customer.customer_id in self._busy else customer

    def _moves(self) -> Work | None:
        if (customer := self._somebody()) is None:
            return None
        customer.city = city = self._random.choice(reference_data.CITIES)
        values = (
            reference_data.address_line(self._random),
            city.name,
            city.country_code,
            reference_data.phone(self._random, city),
            customer.customer_id,
        )
        return Work(customer.shard, (Statement(MOVE_HOME, values),))

    def _changes_email(self) -> Work | None:
        if (customer := self._somebody()) is None:
            return None
        return Work(
            customer.shard,
            (
                Statement(
                    CHANGE_EMAIL, (reference_data.email(self._random, customer.customer_id), customer.customer_id)
                ),
            ),
        )

    def _is_rated(self) -> Work | None:
        if (customer := self._somebody()) is None:
            return None
        customer.risk_rating = self._random.choice([rating for rating in RATINGS if rating != customer.risk_rating])
        return Work(customer.shard, (Statement(RATE_RISK, (customer.risk_rating, customer.customer_id)),))

    def _is_checked(self) -> Work | None:
        if (customer := self._somebody()) is None:
            return None
        customer.kyc_status = "verified" if customer.kyc_status != "verified" else "expired"
        return Work(customer.shard, (Statement(CHECK_KYC, (customer.kyc_status, customer.customer_id)),))

    def _comes(self) -> Work:
        customer, row = new_customer(self._random, self._ids)
        account, account_row = new_account(self._random, self._ids, customer)
        customer.accounts.append(account)
        self._bank.add(customer)
        return Work(customer.shard, (Statement(INSERT_CUSTOMER, row), Statement(INSERT_ACCOUNT, account_row)))

    def _opens(self) -> Work | None:
        if (customer := self._somebody()) is None:
            return None
        account, row = new_account(self._random, self._ids, customer)
        self._bank.open(customer, account)
        return Work(customer.shard, (Statement(INSERT_ACCOUNT, row),))

    def _closes(self) -> Work | None:
        if (customer := self._somebody()) is None or len(customer.active) < 2:
            return None
        return self._set_status(customer, customer.active[-1], "closed")

    def _freezes(self) -> Work | None:
        """Freezes an active account, or reactivates a frozen one."""
        if (customer := self._somebody()) is None:
            return None
        frozen = next((account for account in customer.accounts if account.status == "frozen"), None)
        if frozen is not None:
            return self._set_status(customer, frozen, "active")
        if len(customer.active) < 2:
            return None
        return self._set_status(customer, customer.active[-1], "frozen")

    def _set_status(self, customer: Customer, account: Account, status: str) -> Work:
        account.status = status
        return Work(customer.shard, (Statement(SET_ACCOUNT_STATUS, (status, account.account_id)),))

    def _deletes_account(self) -> Work | None:
        for _ in range(TRIES):
            customer = self._somebody()
            if customer is None or len(customer.accounts) < 2:
                continue
            account = min(customer.accounts, key=lambda found: found.transactions)
            if account.transactions <= MOST_DELETED:
                self._bank.remove_account(customer, account)
                return Work(customer.shard, _erase(account))
        return None

    def _leaves(self) -> Work | None:
        if len(self._bank) < FEWEST_CUSTOMERS:
            return None
        for _ in range(TRIES):
            customer = self._somebody()
            if customer is not None and customer.transactions <= MOST_DELETED:
                gone = [statement for account in customer.accounts for statement in _erase(account)]
                self._bank.remove(customer)
                return Work(customer.shard, (*gone, Statement(DELETE_CUSTOMER, (customer.customer_id,))))
        return None


def _erase(account: Account) -> tuple[Statement, ...]:
    """Returns the deletes of an account: first its transactions, which refer to it, then the account."""
    return (
        Statement(DELETE_TRANSACTIONS_OF, (account.account_id,)),
        Statement(DELETE_ACCOUNT, (account.account_id,)),
    )
