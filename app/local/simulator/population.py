"""Loads the simulated bank's customers from the database, and adds new ones up to the requested number."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, LiteralString

import psycopg

from app.domain.money import to_decimal, to_minor
from app.local.simulator.bank_state import Account, BankState, Customer
from app.local.simulator.customer_lifecycle import Ids, new_account, new_customer
from app.local.simulator.payments import purchase
from app.local.simulator.reference_data import BY_NAME, CITIES

CHUNK: Final = 500
"""Customers per SQL transaction, so that readers do not have to wait until all are written."""
REGULARS: Final = 16
"""One customer in this many has a payment history, which the rule for large amounts needs."""
HISTORY: Final = (8, 12)
HISTORY_DAYS: Final = 25
Row = Sequence[object]


def load(connection: psycopg.Connection[Any]) -> BankState:
    """Returns the bank with all customers in the database, in the order of their ids."""
    customers = {
        customer_id: Customer(customer_id, BY_NAME.get(city, CITIES[customer_id % len(CITIES)]), risk, kyc)
        for customer_id, city, risk, kyc in connection.execute(
            "SELECT customer_id, city, risk_rating, kyc_status FROM customers ORDER BY customer_id"
        )
    }
    for account_id, customer_id, currency, status, balance, transactions in connection.execute(
        "SELECT account_id, customer_id, currency, status, balance::text, coalesce(n, 0) FROM accounts LEFT JOIN "
        "(SELECT account_id, count(*) AS n FROM transactions GROUP BY account_id) AS t USING (account_id) ORDER BY account_id"
    ):
        customers[customer_id].accounts.append(
            Account(account_id, customer_id, currency, status, to_minor(balance), transactions)
        )
    bank = BankState()
    for customer in customers.values():
        bank.add(customer)
    return bank


def grow(
    connection: psycopg.Connection[Any],
    random: Random,
    bank: BankState,
    ids: Ids,
    target: int,
    stop: Callable[[], bool],
) -> None:
    """Add customers by COPY until there are `target` or `stop` returns True. Commits each chunk.

    With COPY many changes share one LSN, as they do in real bulk loads.
    """
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    now: datetime = row[0]
    while (missing := target - len(bank)) > 0 and not stop():
        customers: list[Row] = []
        accounts: list[Row] = []
        history: list[Row] = []
        for _ in range(min(missing, CHUNK)):
            customer, values = new_customer(random, ids)
            since = now - timedelta(days=random.randrange(30, 3_000), seconds=random.randrange(86_400))
            customers.append((*values, since, since))
            for _ in range(1 + (random.random() < 0.4) + (random.random() < 0.15)):
                account, values = new_account(random, ids, customer)
                opened = since if not customer.accounts else since + timedelta(days=random.randrange(30))
                accounts.append((*values, opened, opened))
                customer.accounts.append(account)
            if random.randrange(REGULARS) == 0:
                history += _history(random, customer, ids, now)
            bank.add(customer)
        with connection.transaction():
            _copy(connection, COPY_CUSTOMERS, customers)
            _copy(connection, COPY_ACCOUNTS, accounts)
            _copy(connection, COPY_TRANSACTIONS, history)


COPY_CUSTOMERS: Final = (
    "COPY customers (customer_id, name, email, phone, date_of_birth, address_line, city, country_code, kyc_status, risk_rating, "
    "created_at, updated_at) FROM STDIN"
)
COPY_ACCOUNTS: Final = (
    "COPY accounts (account_id, customer_id, type, currency, status, balance, opened_at, updated_at) FROM STDIN"
)
COPY_TRANSACTIONS: Final = (
    "COPY transactions (transaction_id, account_id, type, amount, currency, status, channel, merchant_id, merchant_category, "
    "counterparty_account, country_code, latitude, longitude, device_id, description, booked_at, created_at) FROM STDIN"
)


def _history(random: Random, customer: Customer, ids: Ids, now: datetime) -> list[Row]:
    """Returns payments of the last weeks. They are settled, and the balance includes them already."""
    account = customer.accounts[0]
    ages = sorted((random.uniform(1, HISTORY_DAYS) for _ in range(random.randint(*HISTORY))), reverse=True)
    rows: list[Row] = []
    for days in ages:
        paid = purchase(random, customer, account)
        at = now - timedelta(days=days)
        rows.append((
            ids.transaction(), account.account_id, "debit", to_decimal(paid.amount_minor), account.currency, "posted", paid.channel,
            paid.merchant, paid.category, None, paid.country_code, paid.latitude, paid.longitude, paid.device, paid.description, at, at,
        ))  # fmt: skip
        account.transactions += 1
    return rows


def _copy(connection: psycopg.Connection[Any], statement: LiteralString, rows: Sequence[Row]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
