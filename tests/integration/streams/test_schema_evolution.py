"""Tests that the worker keeps running while columns are added and removed, a table is only declared, and deletes are not captured.

Real Debezium and the real streams worker.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from app.config.settings import SourceSettings
from tests.support.bank.evolving import Bank, evolving_bank
from tests.support.machine.clients import as_admin
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with evolving_bank(tmp_path_factory.mktemp("evolution")) as running:
        yield running


def of(found: list[dict[str, Any]], **key: Any) -> list[dict[str, Any]]:
    return [record for record in found if record["key"] == key]


def has(found: list[dict[str, Any]], *reasons: str) -> bool:
    return {record["reason"] for record in found}.issuperset(reasons)


def opened(found: list[dict[str, Any]], column: str, value: Any) -> bool:
    return any(record["op"] == "open" and record["attributes"].get(column) == value for record in found)


def test_columns_are_added_and_removed_and_old_versions_stay_unchanged(bank: Bank) -> None:
    bank.execute(
        "ALTER TABLE customers ADD COLUMN tier text NOT NULL DEFAULT 'basic'",
        "UPDATE customers SET tier = 'gold' WHERE name = 'Ada'",
        "ALTER TABLE customers RENAME COLUMN city TO town",
        "UPDATE customers SET town = 'Paris' WHERE name = 'Ada'",
        "ALTER TABLE customers ALTER COLUMN country_code TYPE text",
        "ALTER TABLE customers DROP COLUMN phone",
        "INSERT INTO customers (name, country_code) VALUES ('Di', 'DE')",
        "UPDATE customers SET name = 'Ada L.' WHERE name = 'Ada'",
        "ALTER TABLE cards ALTER COLUMN card_limit TYPE numeric(20, 4)",
        "UPDATE cards SET card_limit = 12345678901.2345 WHERE branch = 'Bern' AND number = 1",
    )
    found = of(bank.versions("customers", lambda found: opened(found, "name", "Ada L.")), customer_id=1)
    opens = [record for record in found if record["op"] == "open"]
    assert [(record["reason"], record["changed"]) for record in opens] == [
        ("created", []), ("updated", ["tier"]), ("updated", ["city", "town"]), ("updated", ["name", "phone"]),
    ]  # fmt: skip
    assert [
        {name: record["attributes"].get(name, "-") for name in ("city", "town", "phone", "tier")} for record in opens
    ] == [
        {"city": "London", "town": "-", "phone": "1", "tier": "-"},
        {"city": "London", "town": "-", "phone": "1", "tier": "gold"},
        {"city": "-", "town": "Paris", "phone": "1", "tier": "gold"},
        {"city": "-", "town": "Paris", "phone": "-", "tier": "gold"},
    ]
    closes = [record for record in found if record["op"] == "close"]
    assert [record["version_id"] for record in closes] == [record["version_id"] for record in opens[:-1]]
    assert [record["valid_to"] for record in closes] == [record["valid_from"] for record in opens[1:]]
    cards = bank.versions("cards", lambda found: opened(found, "card_limit", "12345678901.2345"))
    assert [r["attributes"]["card_limit"] for r in of(cards, branch="Bern", number=1) if r["op"] == "open"] == [
        "30.00", "12345678901.2345",
    ]  # fmt: skip


def test_rows_deleted_while_the_slot_was_lost_are_closed_and_others_are_unchanged(bank: Bank) -> None:
    bank.execute(
        "INSERT INTO customers (name, country_code) VALUES ('Stays', 'DE'), ('Goes', 'DE'), ('Changes', 'DE')",
        "INSERT INTO cards (branch, number, card_limit) VALUES ('Uri', 1, 1), ('Uri', 2, 2)",
    )
    bank.versions("customers", lambda found: all(opened(found, "name", name) for name in ("Stays", "Goes", "Changes")))
    bank.versions("cards", lambda found: all(of(found, branch="Uri", number=number) for number in (1, 2)))
    bank.stack.stop("connect")
    settings = settings_of(bank.stack, SourceSettings)
    with as_admin(settings) as admin:
        inactive = "SELECT FROM pg_replication_slots WHERE slot_name = 'bank' AND NOT active"
        eventually(lambda: admin.execute(inactive).fetchone() is not None, timeout_s=30)
        admin.execute("SELECT pg_drop_replication_slot('bank')")
    bank.execute(
        "DELETE FROM customers WHERE name = 'Goes'",
        "UPDATE customers SET risk_rating = 'high' WHERE name = 'Changes'",
        "DELETE FROM cards WHERE branch = 'Uri' AND number = 1",
        "INSERT INTO cards (branch, number, card_limit) VALUES ('Uri', 3, 3)",
    )
    bank.stack.start("connect")
    bank.bankstream("provision", "connector")
    customers = bank.versions("customers", lambda found: has(found, "vanished", "resnapshot"))
    cards = bank.versions("cards", lambda found: has(found, "vanished") and bool(of(found, branch="Uri", number=3)))

    def reasons(found: list[dict[str, Any]], column: str, value: str) -> list[str]:
        keys = [r["key"] for r in found if r["op"] == "open" and r["attributes"][column] == value]
        return [r["reason"] for r in found if r["key"] in keys]

    assert reasons(customers, "name", "Stays") == ["created"]
    assert reasons(customers, "name", "Goes") == ["created", "vanished"]
    assert reasons(customers, "name", "Changes") == ["created", "superseded", "resnapshot"]
    assert [r["reason"] for r in of(cards, branch="Uri", number=1)] == ["created", "vanished"]
    assert [r["reason"] for r in of(cards, branch="Uri", number=2)] == ["created"]
    assert [r["reason"] for r in of(cards, branch="Uri", number=3)] == ["created"]
    for found in (customers, cards):
        assert sum(r["reason"] == "vanished" for r in found) == 1
    bank.execute("INSERT INTO cards (branch, number, card_limit) VALUES ('Uri', 1, 100)")
    cards = bank.versions(
        "cards", lambda found: opened(found, "card_limit", "100.0000") or opened(found, "card_limit", "100.00")
    )
    assert [r["reason"] for r in of(cards, branch="Uri", number=1)] == ["created", "vanished", "revived"]
