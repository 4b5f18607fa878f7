"""A day of a small bank that contains every case that the warehouse models must handle."""

from datetime import timedelta
from typing import Any

from tests.support.bank.bank_log import BankLog, iso

LARGEST = "9999999999999999.99"
"""The largest NUMERIC(18,2): a float cannot hold it."""


def customer(key: int, at: str, **changes: Any) -> dict[str, Any]:
    """A customer's row."""
    row = {
        "customer_id": key, "name": f"José Ñuñez {key}", "email": f"customer{key}@example.org", "phone": None,
        "date_of_birth": "1985-12-10Z", "address_line": f"Straße {key} \"b\" \\ O'Hara", "city": "München",
        "country_code": "DE", "kyc_status": "verified", "risk_rating": "low", "created_at": at, "updated_at": at,
    }  # fmt: skip
    return row | changes


def account(key: int, owner: int, at: str, **changes: Any) -> dict[str, Any]:
    """An account's row."""
    row = {
        "account_id": key, "customer_id": owner, "type": "checking", "currency": "EUR", "status": "active",
        "balance": "0.00", "opened_at": at, "updated_at": at,
    }  # fmt: skip
    return row | changes


def transaction(key: int, on: int, at: str, **changes: Any) -> dict[str, Any]:
    """A transaction's row."""
    row = {
        "transaction_id": key, "account_id": on, "type": "debit", "amount": "12.50", "currency": "EUR", "status": "posted",
        "channel": "card", "merchant_id": "M-1", "merchant_category": "5411", "counterparty_account": None,
        "country_code": "DE", "latitude": "48.137154", "longitude": "11.576124", "device_id": "D-1", "description": "",
        "booked_at": at, "created_at": at,
    }  # fmt: skip
    return row | changes


def ordinary_day(log: BankLog) -> None:
    """Customers 1-5, accounts 10-50; afterwards customers 1, 2, 4, 50 and accounts 10, 20, 21, 40 live."""
    opening = iso(log.clock)
    for key in (1, 2, 3):
        log.insert("customers", **customer(key, opening))
        log.insert("accounts", **account(key * 10, key, opening))
    log.insert("accounts", **account(21, 2, opening, currency="USD"))
    log.schema_envelope = True
    for key, on, kind, amount in (
        (100, 10, "credit", LARGEST),
        (101, 10, "credit", "0.01"),
        (102, 20, "debit", "0.03"),
    ):
        log.insert("transactions", **transaction(key, on, iso(log.clock), type=kind, amount=amount))
        log.velocity(key)
    log.schema_envelope = False
    log.update("customers", 1, city="Bergen", country_code="NO", updated_at=iso(log.clock))
    log.insert("transactions", **transaction(103, 10, iso(log.clock), amount=LARGEST, type="credit"))
    log.insert("transactions", **transaction(104, 10, iso(log.clock - timedelta(days=400))))  # before history begins
    log.insert("transactions", **transaction(105, 21, iso(log.clock), currency="USD", status="pending"))
    log.update("transactions", 105, status="posted")
    log.update("accounts", 21, balance="-12.50", updated_at=iso(log.clock))  # untracked: no version
    log.insert("transactions", **transaction(106, 20, iso(log.clock), status="declined", amount="777.77"))
    log.update("transactions", 102, account_id=21)  # the row moves to another partition
    late = iso(log.clock)
    log.update("customers", 2, email=None, risk_rating="high")
    log.insert("transactions", **transaction(107, 20, late))  # booked before the current version began
    log.alert(103)
    log.delete("accounts", 30)
    log.delete("customers", 3)
    gone = iso(log.clock)
    log.insert("customers", **customer(3, iso(log.clock), name="Again"))  # revived,
    log.update("customers", 3, customer_id=50)  # and given another key
    log.insert("customers", **customer(4, iso(log.clock)))
    log.insert("accounts", **account(40, 4, iso(log.clock)))
    log.insert("transactions", **transaction(108, 40, gone, type="credit", amount="250.00"))
    log.insert("customers", **customer(5, iso(log.clock)))
    log.delete("customers", 5)
    log.insert("transactions", **transaction(109, 40, iso(log.clock)))
    log.delete("transactions", 109)
    log.refused("customers", None, base64="AAAB")
    log.refused("accounts", "no envelope")
    log.refused("transactions", {"op": "c", "after": {"transaction_id": "one"}, "source": {"ts_ms": 1e30}})
    log.insert("customers", **customer(6, iso(log.clock)))
    log.vanish("customers", 6)
    log.snapshot("customers")
    log.replay(0)  # an old record of customer 1 once more: no effect


def second_day(log: BankLog) -> None:
    """The day after `ordinary_day`: rows are changed, inserted and deleted, and transactions is truncated before a last insert."""
    log.clock += timedelta(days=1)
    log.schema_envelope = True
    log.update("transactions", 107, status="reversed")
    log.update("accounts", 20, customer_id=4)  # changes hands
    log.insert("customers", **customer(3, iso(log.clock), name="Third life"))
    log.delete("customers", 50)
    log.truncate("transactions")
    log.insert("transactions", **transaction(200, 20, iso(log.clock)))
    log.velocity(200)
    log.alert(200, rule="card-testing")


def third_day(log: BankLog) -> None:
    """The day after `second_day`, with late data: a transaction of days ago, one whose account has not landed yet, one that empties its
    minute, one that is corrected to another minute, and a change that the streams worker refuses after a build has read it."""
    log.clock += timedelta(days=1)
    log.insert("transactions", **transaction(300, 20, iso(log.clock)))
    log.insert("transactions", **transaction(301, 20, iso(log.clock + timedelta(minutes=5))))
    log.insert("customers", **customer(7, iso(log.clock)))
    log.insert("accounts", **account(70, 7, iso(log.clock)))
    log.insert("transactions", **transaction(302, 70, iso(log.clock)))
    log.insert("transactions", **transaction(303, 20, iso(log.clock - timedelta(days=2)), amount="3.33"))  # late
    log.delete("transactions", 301)
    log.update("transactions", 300, booked_at=iso(log.clock - timedelta(hours=3)))
    log.update("customers", 4, city="Trondheim", updated_at=iso(log.clock))
    log.refused_update("transactions", 200, amount="0.00")
