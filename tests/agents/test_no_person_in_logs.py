"""Tests that personal data stays in the records: it is not in logs, metrics, alerts or the description of a dead letter."""

import logging
from itertools import chain
from typing import Any

import pytest
from prometheus_client import generate_latest

from app.engine.memory import MemoryPartition
from app.engine.partition_group import PartitionGroup, ProcessingError
from app.engine.unit_of_work import InputRecord, UnitOfWork
from tests.support.bank.cdc import CdcLog, Record, json_bytes
from tests.support.streams.topology_driver import TopologyDriver

CANARY = "Quillfeather-7391"
"""A word that occurs nowhere else. Every column with personal data contains it."""

CUSTOMER = {"customer_id": 1, "kyc_status": "verified", "risk_rating": "low", "country_code": "DE"} | dict.fromkeys(
    ("name", "email", "phone", "date_of_birth", "address_line", "city"), CANARY
)
ACCOUNT = {"account_id": 5, "customer_id": 1, "type": CANARY, "currency": "EUR", "status": "active", "balance": "0.00"}


def transaction(key: int, **changes: Any) -> dict[str, Any]:
    return {
        "transaction_id": key, "account_id": 5, "type": "debit", "amount": "12000.00", "currency": "EUR", "status": "posted",
        "channel": "card", "merchant_id": CANARY, "merchant_category": "5411", "counterparty_account": CANARY, "country_code": "DE",
        "latitude": None, "longitude": None, "device_id": CANARY, "description": CANARY,
        "booked_at": "2026-03-02T09:00:00Z", "created_at": "2026-03-02T09:00:00Z", **changes,
    }  # fmt: skip


def good() -> list[Record]:
    """A customer who moves and then sends large amounts, so that some rules fire."""
    customers, accounts, transactions = (
        CdcLog("customers", "customer_id"), CdcLog("accounts", "account_id"), CdcLog("transactions", "account_id"),
    )  # fmt: skip
    return [
        customers.change("c", after=CUSTOMER),
        customers.change("u", before=CUSTOMER, after=CUSTOMER | {"address_line": f"{CANARY} 2"}),
        accounts.change("c", after=ACCOUNT),
        *(transactions.change("c", after=transaction(key)) for key in range(10, 16)),
        customers.change("d", before=CUSTOMER),
    ]


def poison() -> list[Record]:
    """Records that are refused, each by another step."""
    customers, transactions = (
        CdcLog("customers", "customer_id", offset=100),
        CdcLog("transactions", "account_id", offset=100),
    )
    whole = customers.change("c", after=CUSTOMER).value
    assert whole is not None
    return [
        customers.append(b'{"customer_id":1}', whole[:-20]),
        customers.append(b'{"customer_id":1}', json_bytes({"name": CANARY})),
        customers.append(b'{"customer_id":1}', json_bytes(CANARY)),
        customers.append(json_bytes({"name": CANARY}), whole),
        customers.append(None, whole),
        customers.change("x", after=CUSTOMER),
        customers.change("c", before=CUSTOMER),
        customers.change("c", after=CUSTOMER, commit_us=None),
        customers.append(b'{"customer_id":1}', whole.replace(CANARY.encode(), b"\xff" + CANARY.encode())),
        transactions.change("c", after=transaction(20, amount="12.345")),
        transactions.change("c", after=transaction(21, booked_at="yesterday")),
        transactions.change("c", after=transaction(22, description=[CANARY])),
        transactions.change("c", after=transaction(23, amount=None)),
    ]


@pytest.fixture
def streams(caplog: pytest.LogCaptureFixture) -> TopologyDriver:
    """The agents after good and refused records."""
    found = TopologyDriver()
    with caplog.at_level(logging.DEBUG):
        found.take(*good(), *poison())
    return found


def test_every_poison_record_was_refused_and_alerts_were_raised(streams: TopologyDriver) -> None:
    assert len(streams.reasons) == len(poison())
    assert len(set(streams.reasons)) >= 6
    assert len(streams.values("bank.alerts")) >= 2


def test_alerts_contain_no_personal_data(streams: TopologyDriver) -> None:
    assert [alert for alert in streams.values("bank.alerts") if CANARY in str(alert)] == []


def test_a_dead_letter_has_personal_data_only_in_its_record(streams: TopologyDriver) -> None:
    letters = streams.values("bank.dead-letters")
    assert len(letters) == len(poison())
    said = [{name: value for name, value in letter.items() if name not in ("key", "value")} for letter in letters]
    assert [letter for letter in said if CANARY in str(letter)] == []


def test_logs_and_metrics_contain_no_personal_data(streams: TopologyDriver, caplog: pytest.LogCaptureFixture) -> None:
    del streams
    assert CANARY not in caplog.text
    assert CANARY not in generate_latest().decode()


def test_the_searched_word_is_in_the_records(streams: TopologyDriver) -> None:
    everything = chain.from_iterable((output.value or b"", output.key or b"") for output in streams.outputs)
    assert sum(CANARY.encode() in raw for raw in everything) >= 10


def test_a_defect_is_reported_by_position_and_not_by_the_value() -> None:
    def stumble(record: InputRecord, unit: UnitOfWork) -> None:
        del unit
        raise ValueError(f"what is {record.value!r}?")

    topic = "bank.public.customers"
    group = PartitionGroup("test", "by-customer", (topic,), (), 1, lambda _: 1, "letters")
    with pytest.raises(
        ProcessingError, match=r"bank\.public\.customers/0 offset 0 in by-customer failed: ValueError"
    ) as found:
        MemoryPartition(group, 0).process([good()[0]], {topic: stumble}, now_us=0)
    assert CANARY not in str(found.value)
