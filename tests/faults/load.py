"""A load with known ids: payments, corrections, deletions, new and leaving customers, rollbacks, in small and large transactions.

The seed and the allocated ids determine each transaction. PostgreSQL generates the rows from those ids, so that the generator sends one
statement for a thousand changes. Rate and shape may be changed at any time.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from app.config.settings import PostgresSettings
from tests.faults.confirmed_transactions import ConfirmedTransactions, Statement, Writer

CUSTOMERS: Final = 2_000
ACCOUNTS: Final = 2 * CUSTOMERS
HOT_ACCOUNT: Final = 1
TICK_S: Final = 0.1
LARGEST: Final = 400
"""Number of payments in the largest transaction."""

INSERT_CUSTOMERS: Final = """
    WITH made AS (
        INSERT INTO customers (customer_id, name, email, date_of_birth, address_line, city, country_code, kyc_status, risk_rating)
        OVERRIDING SYSTEM VALUE
        SELECT n, 'Zoë Ñuñez ' || n, nullif('c' || n || '@example.org', 'c' || (n / 5 * 5) || '@example.org'),
            date '1950-01-01' + (n %% 18000)::int,
            n || ' "Straße" \\ O''Hara', 'München', 'DE', 'verified', 'low'
        FROM generate_series(%s::bigint, %s::bigint) AS n RETURNING customer_id
    ) SELECT count(*), sum(customer_id) FROM made"""
INSERT_ACCOUNTS: Final = """
    WITH made AS (
        INSERT INTO accounts (account_id, customer_id, type, currency, status)
        OVERRIDING SYSTEM VALUE
        SELECT n, (n + 1) / 2, CASE WHEN n %% 2 = 0 THEN 'savings' ELSE 'checking' END, CASE WHEN n %% 10 = 0 THEN 'USD' ELSE 'EUR' END,
            'active'
        FROM generate_series(%s::bigint, %s::bigint) AS n RETURNING account_id
    ) SELECT count(*), sum(account_id) FROM made"""
PAYMENTS: Final = """
    WITH made AS (
        INSERT INTO transactions (transaction_id, account_id, type, amount, currency, status, channel, merchant_id,
            counterparty_account, country_code, device_id, description, booked_at)
        OVERRIDING SYSTEM VALUE
        SELECT n, CASE WHEN n * 7919 %% 100 < %(hot)s THEN 1 ELSE 1 + n * 2654435761 %% %(accounts)s END,
            CASE WHEN n %% 3 = 0 THEN 'credit' ELSE 'debit' END,
            CASE WHEN n %% 997 = 0 THEN 12000.01 WHEN n %% 499 = 0 THEN 9500 ELSE (n * 48271 %% 20000 + 1) / 100.0 END,
            'EUR', CASE n %% 8 WHEN 0 THEN 'pending' WHEN 1 THEN 'declined' ELSE 'posted' END, 'card', 'M-' || n %% 50,
            CASE WHEN n %% 4 = 0 THEN 'NO93' || n %% 40 END, CASE WHEN n %% 11 = 0 THEN 'NO' ELSE 'DE' END, 'D-' || n %% 7,
            nullif(repeat('x', (n %% 5)::int * 4), ''),
            %(began)s::timestamptz + n * interval '1 second' - CASE WHEN n %% 13 = 0 THEN interval '90 seconds' ELSE interval '0' END
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
        RETURNING transaction_id, account_id, CASE type WHEN 'credit' THEN amount ELSE -amount END AS signed
    ), moved AS (
        UPDATE accounts SET balance = balance + sums.total, updated_at = clock_timestamp()
        FROM (SELECT account_id, sum(signed) AS total FROM made GROUP BY account_id) AS sums
        WHERE accounts.account_id = sums.account_id RETURNING accounts.account_id
    ) SELECT (SELECT count(*) FROM made), (SELECT sum(transaction_id) FROM made), (SELECT count(*) FROM moved),
        (SELECT sum(account_id) FROM moved)
"""
PROBES: Final = """
    WITH made AS (
        INSERT INTO transactions (transaction_id, account_id, type, amount, currency, status, channel, booked_at)
        OVERRIDING SYSTEM VALUE
        SELECT n, %(account)s, 'debit', CASE n WHEN %(last)s THEN 750 ELSE 0.5 END, 'EUR', 'posted', 'online',
            %(began)s::timestamptz + %(last)s * interval '1 second' + (n - %(last)s) * interval '2 seconds'
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n RETURNING transaction_id
    ) SELECT count(*), sum(transaction_id) FROM made"""
AT_LENGTH: Final = """
    WITH made AS (
        INSERT INTO transactions (transaction_id, account_id, type, amount, currency, status, channel, booked_at, description)
        OVERRIDING SYSTEM VALUE
        VALUES (%s, %s, 'credit', 1.00, 'EUR', 'posted', 'branch', clock_timestamp(), repeat('0123456789abcdef', %s))
        RETURNING transaction_id
    ) SELECT count(*), sum(transaction_id) FROM made"""
SETTLE: Final = """
    WITH made AS (
        UPDATE transactions SET status = CASE WHEN transaction_id %% 16 = 0 THEN 'reversed' ELSE 'posted' END
        WHERE transaction_id BETWEEN %s AND %s AND status = 'pending' RETURNING transaction_id
    ) SELECT count(*), sum(transaction_id) FROM made"""
REMOVE: Final = """
    WITH made AS (
        DELETE FROM transactions WHERE transaction_id BETWEEN %s AND %s AND transaction_id %% 10 = 7 RETURNING transaction_id
    ) SELECT count(*), sum(transaction_id) FROM made"""
MOVE_HOUSE: Final = """
    WITH made AS (
        UPDATE customers SET address_line = %s, city = %s, country_code = 'NO', updated_at = clock_timestamp()
        WHERE customer_id BETWEEN %s AND %s RETURNING customer_id
    ) SELECT count(*), sum(customer_id) FROM made"""
FREEZE: Final = """
    WITH made AS (
        UPDATE accounts SET status = CASE status WHEN 'active' THEN 'frozen' ELSE 'active' END, updated_at = clock_timestamp()
        WHERE account_id BETWEEN %s AND %s RETURNING account_id
    ) SELECT count(*), sum(account_id) FROM made"""
LEAVE: Final = """
    WITH gone AS (
        DELETE FROM accounts WHERE account_id BETWEEN %s AND %s RETURNING account_id
    ) SELECT count(*), sum(account_id) FROM gone"""
FORGET: Final = """
    WITH gone AS (
        DELETE FROM customers WHERE customer_id BETWEEN %s AND %s RETURNING customer_id
    ) SELECT count(*), sum(customer_id) FROM gone"""

Made = list[Statement]


class Load:
    """A thread that writes to one bank. `rate` is in row changes per second; `hot_percent` of the payments are booked on one account."""

    def __init__(self, settings: PostgresSettings, ledger: ConfirmedTransactions, seed: int) -> None:
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self._settings = settings
        self._lengthy = 0
        self.ledger = ledger
        self._writer = Writer(settings, ledger, self._stopping)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.rate = 0
        self.hot_percent = 0
        self.next_payment = 1
        """The id of the next payment."""
        self._next_customer = CUSTOMERS + 1
        self._strangers: list[tuple[int, int]] = []
        """Customers created by the load. Each has two accounts and no payments, so the load may delete it."""
        self._began = "2026-01-01T00:00:00Z"

    def populate(self, began: str) -> None:
        """Creates the customers and accounts of all payments. Payments are booked from `began` on, one second apart."""
        self._began = began
        self._writer.transact(
            [
                (INSERT_CUSTOMERS, [("customers", "c")], [1, CUSTOMERS]),
                (INSERT_ACCOUNTS, [("accounts", "c")], [1, ACCOUNTS]),
            ]
        )

    def start(self, rate: int, hot_percent: int = 0) -> None:
        """Starts to write at this rate."""
        self.rate, self.hot_percent = rate, hot_percent
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._guarded, name="load", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Finishes the current transaction and stops. Raises the error that ended the load, if any."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join(180)
            assert not thread.is_alive(), "the load does not stop"
        self.check()

    def close(self) -> None:
        """Stops and closes the connection."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(180)
        self._writer.close()

    def pay_at_length(self, length: int) -> int:
        """Writes a payment with a description of this many bytes and returns its id. The load never corrects or deletes it."""
        writer = Writer(self._settings, self.ledger, self._stopping)
        key = -10 * (1 + self._lengthy)
        self._lengthy += 1
        try:
            writer.transact([(AT_LENGTH, [("transactions", "c")], [key, 1 + self._lengthy, length // 16])])
        finally:
            writer.close()
        return key

    def check(self) -> None:
        """Raises the error that ended the load, if any."""
        if self._failure is not None:
            raise RuntimeError("the load has ended") from self._failure

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - raised again by `check`
            self._failure = error

    def _run(self) -> None:
        began, due, written = time.monotonic(), 0.0, self.ledger.rows
        while not self._stopping.wait(TICK_S):
            now = time.monotonic()
            due += (now - began) * self.rate
            began = now
            while due > 0 and not self._stopping.is_set():
                statements, commit = self._next(due)
                self._writer.transact(statements, commit=commit)
                due -= self.ledger.rows - written
                written = self.ledger.rows

    def _next(self, due: float) -> tuple[Made, bool]:
        chance = self._chance.random()
        if chance < 0.70:
            return self._payments(due), True
        if chance < 0.74:
            return self._payments(min(due, 50)), False
        others: tuple[tuple[float, Callable[[], Made]], ...] = (
            (0.80, self._settle), (0.83, self._remove), (0.88, self._move_house), (0.92, self._freeze),
            (0.95, self._newcomers), (0.97, self._leave), (1.01, self._probe),
        )  # fmt: skip
        return next(make for limit, make in others if chance < limit)(), True

    def _payments(self, due: float) -> Made:
        largest = max(1, min(LARGEST, int(due / 2)))
        count = 1 if self._chance.random() < 0.3 else self._chance.randint(1, largest)
        first = self._take(count)
        parameters = {
            "hot": self.hot_percent, "accounts": ACCOUNTS, "began": self._began, "first": first, "last": first + count - 1,
        }  # fmt: skip
        return [(PAYMENTS, [("transactions", "c"), ("accounts", "u")], parameters)]  # type: ignore[list-item]

    def _probe(self) -> Made:
        """Writes a fraud: small amounts, then a large one."""
        first = self._take(5)
        account = 1 + self._chance.randrange(ACCOUNTS)
        parameters = {"account": account, "began": self._began, "first": first, "last": first + 4}
        return [(PROBES, [("transactions", "c")], parameters)]  # type: ignore[list-item]

    def _settle(self) -> Made:
        last = self._chance.randint(1, self.next_payment)
        last = self.next_payment if self._chance.random() < 0.7 else last
        return [(SETTLE, [("transactions", "u")], [last - 600, last])]

    def _remove(self) -> Made:
        last = self._chance.randint(1, self.next_payment)
        return [(REMOVE, [("transactions", "d")], [last - 60, last])]

    def _move_house(self) -> Made:
        first = self._chance.randint(1, CUSTOMERS)
        street = f"{self._chance.randrange(10**6)} Kongens gate"
        return [
            (MOVE_HOUSE, [("customers", "u")], [street, f"Bergen {first}", first, first + self._chance.randint(0, 20)])
        ]

    def _freeze(self) -> Made:
        first = self._chance.randint(1, ACCOUNTS)
        return [(FREEZE, [("accounts", "u")], [first, first + self._chance.randint(0, 20)])]

    def _newcomers(self) -> Made:
        """Creates customers with their accounts in one transaction."""
        first = self._next_customer
        last = first + self._chance.randint(0, 5)
        self._next_customer = last + 1
        self._strangers.append((first, last))
        accounts = (2 * first - 1, 2 * last)
        return [
            (INSERT_CUSTOMERS, [("customers", "c")], [first, last]),
            (INSERT_ACCOUNTS, [("accounts", "c")], [*accounts]),
        ]

    def _leave(self) -> Made:
        """Deletes some created customers, and inserts some of those again with the same keys in the same transaction."""
        if not self._strangers:
            return self._move_house()
        first, last = self._strangers.pop(self._chance.randrange(len(self._strangers)))
        gone: Made = [
            (LEAVE, [("accounts", "d")], [2 * first - 1, 2 * last]),
            (FORGET, [("customers", "d")], [first, last]),
        ]
        if self._chance.random() < 0.5:
            self._strangers.append((first, last))
            gone += [
                (INSERT_CUSTOMERS, [("customers", "c")], [first, last]),
                (INSERT_ACCOUNTS, [("accounts", "c")], [2 * first - 1, 2 * last]),
            ]
        return gone

    def _take(self, count: int) -> int:
        first = self.next_payment
        self.next_payment += count
        return first
