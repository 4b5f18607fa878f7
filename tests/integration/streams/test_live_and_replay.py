"""Tests that a history gives the same records live, through Debezium and the streams worker, and in a replay of Debezium's records.

The history has all kinds of changes: inserts, updates, deletes, changed keys, TRUNCATE, values that the log does not have (TOAST), added
and removed columns, and rows deleted while the slot was lost. It is written in steps, each of which is processed before the next, because
a recording cannot keep the order of simultaneous changes of two partitions.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from app.config.settings import KafkaSettings, SourceSettings
from app.proof.reconcile.barrier import everything_committed
from tests.support.bank.capture_cdc import in_time, kcat
from tests.support.bank.cdc_reader import CdcRecord
from tests.support.bank.evolving import Bank, evolving_bank
from tests.support.machine.clients import as_admin
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CDC: Final = ("bank.public.customers", "bank.public.accounts", "bank.public.transactions", "bank.public.cards")
DERIVED: Final = (
    "bank.scd2.customers", "bank.scd2.accounts", "bank.scd2.cards", "bank.transactions", "bank.velocity", "bank.alerts",
)  # fmt: skip
LARGE: Final = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) AS n)"
"""12,800 characters that do not compress, which PostgreSQL stores outside the row (TOAST)."""

STEPS: Final = (
    # every kind of change of a row, and a transaction that changes one twice
    (
        "UPDATE customers SET city = 'Paris', email = '' WHERE name = 'Ada'",
        "UPDATE customers SET updated_at = now() WHERE name = 'Bo'",
        "INSERT INTO customers (name, country_code) VALUES ('Di', 'DE'), ('Ed', 'DE')",
        (
            "BEGIN; UPDATE customers SET risk_rating = 'medium' WHERE name = 'Cy'; "
            "UPDATE customers SET risk_rating = 'high' WHERE name = 'Cy'; COMMIT"
        ),
        "DELETE FROM customers WHERE name = 'Ed'",
        (
            "INSERT INTO accounts (customer_id, type, currency, balance) "
            "SELECT customer_id, 'checking', 'EUR', 0 FROM customers"
        ),
        "UPDATE accounts SET balance = balance + 1, updated_at = now()",
        "UPDATE cards SET hits = hits + 1",
    ),
    (
        (
            "INSERT INTO transactions (account_id, type, amount, currency, channel, booked_at, counterparty_account) "
            "SELECT account_id, 'debit', n * 1000.01, 'EUR', 'card', now() - n * interval '1 minute', 'X' || n "
            "FROM accounts, generate_series(1, 12) AS n"
        ),
        "UPDATE transactions SET status = 'posted' WHERE amount < 3000",
        "DELETE FROM transactions WHERE amount > 11000",
        # keys that change, also a composite key
        "INSERT INTO customers (name, country_code) VALUES ('Moves', 'DE')",
        "UPDATE customers SET customer_id = DEFAULT WHERE name = 'Moves'",
        "UPDATE cards SET notes = 'moved', number = 9 WHERE branch = 'Zürich' AND number = 1",
        "DELETE FROM cards WHERE branch = 'Bern' AND number = 2",
        # a TOAST value that is not in the log: cards have the default replica identity
        f"UPDATE cards SET notes = {LARGE} WHERE branch = 'Bern' AND number = 1",  # noqa: S608 - our own words
        "UPDATE cards SET card_limit = 31 WHERE branch = 'Bern' AND number = 1",
        # columns that are added, removed and widened
        "ALTER TABLE customers ADD COLUMN tier text NOT NULL DEFAULT 'basic'",
        "UPDATE customers SET tier = 'gold' WHERE name = 'Ada'",
        "ALTER TABLE customers RENAME COLUMN city TO town",
        "UPDATE customers SET town = 'Rome' WHERE name = 'Ada'",
        "ALTER TABLE customers DROP COLUMN phone",
        "UPDATE customers SET name = 'Ada L.' WHERE name = 'Ada'",
        "ALTER TABLE cards ALTER COLUMN card_limit TYPE numeric(20, 4)",
        "UPDATE cards SET card_limit = 12345678901.2345 WHERE branch = 'Bern' AND number = 1",
    ),
    ("TRUNCATE cards", "TRUNCATE transactions"),
    (
        "INSERT INTO cards (branch, number, card_limit) VALUES ('Zürich', 2, 20), ('Basel', 1, 5), ('Chur', 1, 6), ('Uri', 1, 1)",
        (
            "INSERT INTO transactions (account_id, type, amount, currency, channel) "
            "SELECT account_id, 'credit', 12.50, 'EUR', 'transfer' FROM accounts"
        ),
    ),
)
AWAY: Final = (
    "DELETE FROM cards WHERE branch = 'Uri'",
    "DELETE FROM customers WHERE name = 'Moves'",
    "UPDATE customers SET risk_rating = 'high' WHERE name = 'Bo'",
    "INSERT INTO cards (branch, number, card_limit) VALUES ('Uri', 2, 3)",
)
BACK: Final = (
    "INSERT INTO cards (branch, number, card_limit) VALUES ('Uri', 1, 100)",
    "UPDATE customers SET name = 'Bo the Last' WHERE name = 'Bo'",
)

Records = dict[tuple[str, bytes], list[Any]]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with evolving_bank(tmp_path_factory.mktemp("live-and-replay")) as running:
        yield running


@pytest.mark.timeout(850)
def test_a_live_and_a_replayed_history_give_the_same_records(bank: Bank, tmp_path: Path) -> None:
    for step in STEPS:
        bank.execute(*step)
        settled(bank, tmp_path)
    lose_slot(bank)
    bank.execute(*AWAY)
    bank.stack.start("connect")
    bank.bankstream("provision", "connector")
    settled(bank, tmp_path)
    bank.execute(*BACK)
    live, replayed = settled(bank, tmp_path)
    assert replayed.keys() == live.keys()
    for key, records in live.items():
        assert replayed[key] == records, key
    seen = {
        (topic, json.loads(record)["reason"])
        for (topic, _), records in live.items()
        for record in records
        if "scd2" in topic
    }
    assert {reason for topic, reason in seen if topic == "bank.scd2.cards"} >= {
        "created", "updated", "superseded", "key_changed", "deleted", "truncated", "revived", "vanished",
    }, seen  # fmt: skip
    assert ("bank.scd2.customers", "resnapshot") in seen
    assert {topic for topic, _ in live} == set(DERIVED)


def lose_slot(bank: Bank) -> None:
    bank.stack.stop("connect")
    with as_admin(settings_of(bank.stack, SourceSettings)) as admin:
        inactive = "SELECT FROM pg_replication_slots WHERE slot_name = 'bank' AND NOT active"
        eventually(lambda: admin.execute(inactive).fetchone() is not None, timeout_s=30)
        admin.execute("SELECT pg_drop_replication_slot('bank')")


def settled(bank: Bank, tmp_path: Path) -> tuple[Records, Records]:
    """The derived records, live and replayed, once all changes committed before the call are processed live."""
    kafka, source = settings_of(bank.stack, KafkaSettings), settings_of(bank.stack, SourceSettings)
    asyncio.run(everything_committed(kafka, source, CDC, timeout_s=90, on_progress=lambda _: None))
    changes = bank.read(CDC, nothing_new())
    recording = tmp_path / "changes.ndjson"
    recording.write_text("".join(json.dumps(kcat(record)) + "\n" for record in in_time(changes)), encoding="utf-8")
    bank.bankstream("replay", str(recording), "--out", str(tmp_path / "out"))
    replayed = replayed_records(tmp_path / "out")
    expected = sum(map(len, replayed.values()))
    looks = nothing_new()
    found = bank.read(DERIVED, lambda found: len(found) >= expected and looks(found))
    live: Records = defaultdict(list)
    for record in found:
        assert record.raw_key is not None
        assert record.raw_value is not None
        live[record.topic, record.raw_key].append(without_clock(record.topic, record.raw_value))
    return live, replayed


def replayed_records(out: Path) -> Records:
    """By topic and key."""
    found: Records = defaultdict(list)
    for topic in DERIVED:
        for line in (out / f"{topic}.ndjson").read_bytes().splitlines():
            record = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            found[topic, bytes(record["key"])].append(without_clock(topic, bytes(record["value"])))
    return found


def without_clock(topic: str, value: bytes) -> bytes:
    """A record without the detection time of an alert, which is from the worker's clock. All other bytes must be equal."""
    if topic != "bank.alerts":
        return value
    alert = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    assert alert.pop("detected_at")
    return msgspec.json.encode(alert)


def nothing_new() -> Any:
    """A condition that holds after ten consecutive reads without new records."""
    looks: list[int] = []

    def enough(found: list[CdcRecord]) -> bool:
        looks.append(len(found))
        return len(looks) > 10 and len(set(looks[-10:])) == 1 and bool(found)

    return enough
