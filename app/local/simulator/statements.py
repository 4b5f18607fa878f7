"""Defines the SQL statements of the simulated bank, and the work that groups statements into one SQL transaction."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, LiteralString


class Counted(Enum):
    """The statistic that counts a statement's rows."""

    TRANSACTIONS = "transactions"
    OTHER_INSERTS = "other_inserts"
    UPDATES = "updates"
    DELETES = "deletes"


@dataclass(frozen=True, slots=True)
class StatementKind:
    """A statement without its values."""

    sql: LiteralString
    counted: Counted


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its values."""

    kind: StatementKind
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """One SQL transaction of the bank's software.

    All its rows belong to customers of one `shard`. Works of a shard run in order; works of different shards run in parallel.
    """

    shard: int
    statements: tuple[Statement, ...]
    inserted: int = 0
    """The number of transactions that it inserts."""
    rolled_back: bool = False
    """The statements are executed and then rolled back."""
    frauds: int = 0
    """The number of frauds that begin with it."""
    deadline: float = field(default=0.0, compare=False)
    """When it is due, by the monotonic clock of the run."""


INSERT_CUSTOMER: Final = StatementKind(
    "INSERT INTO customers (customer_id, name, email, phone, date_of_birth, address_line, city, country_code, kyc_status, risk_rating) "
    "OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
    Counted.OTHER_INSERTS,
)
INSERT_ACCOUNT: Final = StatementKind(
    "INSERT INTO accounts (account_id, customer_id, type, currency, status, balance) OVERRIDING SYSTEM VALUE "
    "VALUES (%s, %s, %s, %s, %s, %s)",
    Counted.OTHER_INSERTS,
)
INSERT_TRANSACTION: Final = StatementKind(
    "INSERT INTO transactions (transaction_id, account_id, type, amount, currency, status, channel, merchant_id, merchant_category, "
    "counterparty_account, country_code, latitude, longitude, device_id, description, booked_at) OVERRIDING SYSTEM VALUE "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() - make_interval(secs => %s))",
    Counted.TRANSACTIONS,
)
INSERT_LABEL: Final = StatementKind(
    "INSERT INTO fraud_labels (transaction_id, pattern, pattern_id, customer_id, account_id, completes) "
    "VALUES (%s, %s, %s, %s, %s, %s)",
    Counted.OTHER_INSERTS,
)
MOVE_BALANCE: Final = StatementKind(
    "UPDATE accounts SET balance = balance + %s, updated_at = now() WHERE account_id = %s", Counted.UPDATES
)
SETTLE: Final = StatementKind(
    "UPDATE transactions SET status = 'posted' WHERE transaction_id = ANY(%s) AND status = 'pending'", Counted.UPDATES
)
REVERSE: Final = StatementKind(
    "UPDATE transactions SET status = 'reversed' WHERE transaction_id = %s AND status IN ('pending', 'posted')",
    Counted.UPDATES,
)
MOVE_HOME: Final = StatementKind(
    "UPDATE customers SET address_line = %s, city = %s, country_code = %s, phone = %s, updated_at = now() WHERE customer_id = %s",
    Counted.UPDATES,
)
CHANGE_EMAIL: Final = StatementKind(
    "UPDATE customers SET email = %s, updated_at = now() WHERE customer_id = %s", Counted.UPDATES
)
RATE_RISK: Final = StatementKind(
    "UPDATE customers SET risk_rating = %s, updated_at = now() WHERE customer_id = %s", Counted.UPDATES
)
CHECK_KYC: Final = StatementKind(
    "UPDATE customers SET kyc_status = %s, updated_at = now() WHERE customer_id = %s", Counted.UPDATES
)
SET_ACCOUNT_STATUS: Final = StatementKind(
    "UPDATE accounts SET status = %s, updated_at = now() WHERE account_id = %s", Counted.UPDATES
)
DELETE_TRANSACTION: Final = StatementKind("DELETE FROM transactions WHERE transaction_id = %s", Counted.DELETES)
DELETE_TRANSACTIONS_OF: Final = StatementKind("DELETE FROM transactions WHERE account_id = %s", Counted.DELETES)
DELETE_ACCOUNT: Final = StatementKind("DELETE FROM accounts WHERE account_id = %s", Counted.DELETES)
DELETE_CUSTOMER: Final = StatementKind("DELETE FROM customers WHERE customer_id = %s", Counted.DELETES)
