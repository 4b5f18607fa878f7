"""Loads with another distribution: one key with most of the events, and a row of the maximum message size (matrix 19)."""

import random
import time
from typing import Final

from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.load import HOT_ACCOUNT

HOT_PERCENT: Final = 90
HOT_S: Final = 8.0
LARGE_BYTES: Final = 10 << 20


def hot(bank: Bank, _: random.Random) -> Firing:
    """Books nine of ten payments on one account, for HOT_S."""
    first = bank.load.next_payment
    bank.load.hot_percent = HOT_PERCENT
    at = time.time()
    time.sleep(HOT_S)
    bank.load.hot_percent = 0
    rows = bank.query(
        "SELECT count(*) FILTER (WHERE account_id = %s), count(*) FROM transactions WHERE transaction_id >= %s",
        HOT_ACCOUNT, first,
    )  # fmt: skip
    mine, all_of_them = (int(str(value)) for value in rows[0])
    if mine < all_of_them / 2 or not mine:
        raise NotFiredError(f"only {mine} of {all_of_them} payments were of the hot account")
    return Firing(f"{mine} of {all_of_them} payments were of account {HOT_ACCOUNT}", at)


def large(bank: Bank, _: random.Random) -> Firing:
    """Writes a payment whose description has LARGE_BYTES."""
    at = time.time()
    key = bank.load.pay_at_length(LARGE_BYTES)
    found = bank.query("SELECT octet_length(description) FROM transactions WHERE transaction_id = %s", key)
    if found != [(LARGE_BYTES,)]:
        raise NotFiredError(f"payment {key} has {found} bytes")
    return Firing(f"payment {key} has {LARGE_BYTES} bytes", at)


HOLDS: Final = "nothing is lost, duplicated or wrong"
ROWS = (
    Fault("hot-key", 19, f"{HOT_PERCENT} % of all payments are booked on one account", HOLDS, hot, times=2, weight=2),
    Fault("large-row", 19, f"a row of {LARGE_BYTES >> 20} MB", f"{HOLDS}, from the source to the warehouse", large),
)  # fmt: skip
