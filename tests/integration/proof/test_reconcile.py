"""Tests that reconcile finds exactly the differences between PostgreSQL and the warehouse, also while both change."""

import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import zstandard
from aiokafka import TopicPartition

from app.config.settings import S3Settings, SourceSettings
from app.domain.captured import CapturedTable
from app.local.stack.part import Part
from app.operations.provision.source import provision
from app.proof.reconcile.report import Difference, ReconcileError, Report
from app.proof.reconcile.warehouse import PAGE_ROWS
from sinks.lines import large_record_line
from tests.support.bank.cdc import Record
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import drop_database
from tests.support.machine.stack import StackPool, settings_of
from tests.support.warehouse.landing import BUCKET, landing
from tests.support.warehouse.reconciled_bank import Bank, Row

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def environment(stack_pool: StackPool) -> Mapping[str, str]:
    return stack_pool.get(Part.POSTGRES, Part.S3, Part.WAREHOUSE).environment()


@pytest.fixture
def bank(stack_pool: StackPool, tmp_path: Path) -> Iterator[Bank]:
    stack = stack_pool.get(Part.POSTGRES, Part.S3, Part.WAREHOUSE)
    settings = settings_of(stack, SourceSettings, dbname=f"reconcile_{uuid4().hex[:8]}")
    provision(settings, CATALOGUE)
    with landing(stack, tmp_path) as tables:
        found = Bank(settings, tables)
        first, second = found.customer(), found.customer("Zoë")
        for customer in (first, second):
            account = found.account(customer)
            for amount in ("0.01", "9999999999999999.99", "12.50"):
                found.transaction(account, amount)
        yield found
        found.connection.close()
    drop_database(settings)


def differences(report: Report) -> dict[str, tuple[Difference, ...]]:
    return {name: table.differences for name, table in report.tables.items() if not table.equal}


def test_equal_tables_are_equal_to_the_last_cent(bank: Bank) -> None:
    report = bank.reconcile()
    assert report.reconciled
    assert report.lines() == []
    transactions = report.tables["transactions"]
    assert (transactions.source_rows, transactions.warehouse_rows) == (6, 6)
    assert transactions.source_hash == transactions.warehouse_hash
    assert transactions.sums["amount"].source == transactions.sums["amount"].warehouse == "20000000000000025.00"


def test_a_row_that_the_warehouse_lacks_is_named(bank: Bank) -> None:
    missing = bank.customer("Never landed", land=False)
    report = bank.reconcile()
    assert not report.reconciled
    assert differences(report) == {"customers": (Difference(missing, "missing"),)}
    assert report.lines() == [f"customers {missing} is missing in the warehouse"]


def test_a_row_that_only_the_warehouse_has_is_named(bank: Bank) -> None:
    customer = bank.customer()
    bank.change("customers", "DELETE FROM customers WHERE customer_id = %s", customer, op="d", land=False)
    assert differences(bank.reconcile()) == {"customers": (Difference(customer, "extra"),)}


def test_one_cent_is_found_and_its_column_named(bank: Bank) -> None:
    key = bank.transaction(1, "100.00")
    bank.change("transactions", "UPDATE transactions SET amount = 100.01 WHERE transaction_id = %s", key, land=False)
    report = bank.reconcile()
    assert differences(report) == {"transactions": (Difference(key, "different", ("amount",)),)}
    assert report.lines() == [f"transactions {key} differs in amount"]


@pytest.mark.parametrize(
    ("assignment", "column", "why"),
    [
        ("email = ''", "email", "NULL is not the empty text"),
        ("address_line = NULL", "address_line", "the empty text is not NULL"),
        ("name = 'ada'", "name", "letters have their case"),
        ("name = E'A\\u0308da'", "name", "Unicode forms are not made equal"),
        ("date_of_birth = '1815-12-11'", "date_of_birth", "a day"),
        ("updated_at = updated_at + interval '1 microsecond'", "updated_at", "a microsecond"),
    ],
)
def test_the_smallest_change_of_a_column_is_found(bank: Bank, assignment: str, column: str, why: str) -> None:
    statement = f"UPDATE customers SET {assignment} WHERE customer_id = 1"  # noqa: S608 - written above
    bank.change("customers", statement, land=False)
    assert differences(bank.reconcile()) == {"customers": (Difference(1, "different", (column,)),)}, why


def test_an_event_that_landed_twice_changes_nothing(bank: Bank) -> None:
    bank.change("customers", "UPDATE customers SET city = 'Turin' WHERE customer_id = 1", op="u")
    end = {**bank.landed[-1]}
    bank.land(end, {**bank.landed[0], "offset": end["offset"] + 1, "partition": end["partition"]})
    assert bank.reconcile().reconciled


def test_deleted_moved_and_truncated_rows_are_followed(bank: Bank) -> None:
    customer = bank.customer()
    bank.change("customers", "DELETE FROM customers WHERE customer_id = %s", customer, op="d")
    key = bank.transaction(1, "7.00")
    old = bank.change("transactions", "UPDATE transactions SET description = '' WHERE transaction_id = %s", key, op="u")
    moved = bank.change(
        "transactions", "UPDATE transactions SET account_id = 2 WHERE transaction_id = %s", key, land=False
    )
    create = bank.event("transactions", "c", bank.landed[-1]["value"]["source"]["txId"] + 1, moved)
    lsn = create["value"]["source"]["lsn"]
    bank.land(bank.event("transactions", "d", lsn, old, lsn=lsn, txId=create["value"]["source"]["txId"]), create)
    assert bank.reconcile().reconciled
    with bank.connection.transaction():
        bank.connection.execute("TRUNCATE transactions")
        xid = bank.connection.execute("SELECT pg_current_xact_id()::text AS xid").fetchone()
    assert xid is not None
    bank.connection.commit()
    bank.land(bank.event("transactions", "t", int(xid["xid"]), None))
    bank.transaction(2, "1.00")
    report = bank.reconcile()
    assert report.reconciled
    assert report.tables["transactions"].warehouse_rows == 1


def test_transactions_that_commit_after_the_snapshot_do_not_count(bank: Bank) -> None:
    with bank.snapshot() as source:
        bank.customer("Later")
        bank.change("customers", "UPDATE customers SET name = 'Later' WHERE customer_id = 1", op="u")
        bank.change("transactions", "DELETE FROM transactions WHERE transaction_id = 1", op="d")
        report = bank.compare(source)
    assert report.reconciled
    assert report.tables["customers"].warehouse_rows == 2
    assert bank.reconcile().reconciled


def test_a_transaction_in_progress_at_the_snapshot_does_not_count_though_its_id_is_lower(bank: Bank) -> None:
    with bank.connect() as other:
        bank.change("customers", "UPDATE customers SET name = 'Slow' WHERE customer_id = 1", op="u", connection=other)
        bank.customer("Quick")  # a higher id, committed before the snapshot
        with bank.snapshot() as source:
            assert source.snapshot.in_progress
            other.commit()
            assert bank.compare(source).reconciled
    assert bank.reconcile().reconciled


def test_transaction_ids_of_another_epoch_are_recognised_by_their_time(bank: Bank) -> None:
    old = bank.landed[0]["value"]["source"]
    ages_ago = time.time_ns() // 1_000 - 400 * 86_400_000_000
    row = bank.landed[0]["value"]["after"] | {"customer_id": 900}
    bank.connection.execute(
        "INSERT INTO customers OVERRIDING SYSTEM VALUE SELECT 900, name, email, phone, date_of_birth, address_line, city, "
        "country_code, kyc_status, risk_rating, created_at, updated_at FROM customers WHERE customer_id = 1"
    )
    bank.connection.commit()
    bank.land(bank.event("customers", "c", old["txId"] + (1 << 31) - 5, row, ts_us=ages_ago))
    assert bank.reconcile().reconciled


def test_rows_of_the_connectors_own_snapshot_count(bank: Bank) -> None:
    row = bank.change(
        "customers", "INSERT INTO customers (name, country_code) VALUES ('Before capture', 'DE')", land=False
    )
    with bank.connection.transaction():
        xid = bank.connection.execute("SELECT pg_current_xact_id()::text AS xid").fetchone()
    assert xid is not None
    bank.connection.commit()
    bank.land(bank.event("customers", "r", int(xid["xid"]), row))
    assert bank.reconcile().reconciled


@pytest.mark.parametrize("aside", [False, True], ids=["whole", "as base64"])
def test_rows_missing_from_a_complete_connector_snapshot_are_deleted(bank: Bank, aside: bool) -> None:
    """The rows were deleted without capture: only their absence from the snapshot shows it."""
    vanished, lives = bank.customer("vanishes"), bank.customer("lives")
    bank.change("customers", "DELETE FROM customers WHERE customer_id = %s", vanished, op="d", land=False)
    rows = bank.connection.execute(
        "SELECT *, pg_current_xact_id()::text AS xid FROM customers ORDER BY customer_id"
    ).fetchall()
    bank.connection.commit()
    assert rows[-1]["customer_id"] == lives
    bank.clock_ms = 1_000
    events = [
        bank.event("customers", "r", int(row.pop("xid")), row, lsn=90_000, snapshot="last_in_data_collection" if last else "true")
        for last, row in ((row is rows[-1], row) for row in rows)
    ]  # fmt: skip
    if aside:
        events = [wrapped(event, msgspec.json.encode(event["value"])) for event in events]
    bank.land(*events[:-1])
    assert differences(bank.reconcile()) == {"customers": (Difference(vanished, "extra"),)}, "it may still be read"
    bank.land(events[-1])
    assert bank.reconcile().reconciled
    bank.customer("made behind the snapshot")  # its lsn is lower; it was recorded after the snapshot's end
    assert bank.reconcile().reconciled


def test_rows_of_a_connector_snapshot_in_progress_count_too(bank: Bank) -> None:
    row = bank.change(
        "customers", "INSERT INTO customers (name, country_code) VALUES ('Before capture', 'DE')", land=False
    )
    with bank.connect() as connector:
        found = connector.execute("SELECT pg_current_xact_id()::text AS xid").fetchone()
        assert found is not None
        bank.customer("Later than the connector's transaction")
        with bank.snapshot() as source:
            assert int(found["xid"]) in source.snapshot.in_progress
            bank.land(bank.event("customers", "r", int(found["xid"]), row))
            assert bank.compare(source).reconciled


def wrapped(event: Row, value: bytes) -> Row:
    """The record as it lands if JSON parsers disagree on its value."""
    return {**event, "value": None, "value_base64": b64encode(value).decode()}


def test_changes_that_landed_as_base64_count_like_all_others(bank: Bank) -> None:
    def raw(event: Row) -> bytes:
        return b" %s " % msgspec.json.encode(event["value"])  # a VARIANT does not keep spaces around a value

    row = bank.change("customers", "UPDATE customers SET city = 'Oslo' WHERE customer_id = 1", land=False)
    bank.land(wrapped(event := bank.event("customers", "u", bank.xid(), row), raw(event)))
    new = bank.change("customers", "INSERT INTO customers (name, country_code) VALUES ('Eve', 'NO')", land=False)
    bank.land(wrapped(event := bank.event("customers", "c", bank.xid(), new), raw(event)))
    gone = bank.change("transactions", "DELETE FROM transactions WHERE transaction_id = 1", land=False)
    bank.land(wrapped(event := bank.event("transactions", "d", bank.xid(), gone), raw(event)))
    bank.land(wrapped(bank.event("customers", "u", bank.xid(), row | {"city": "Nowhere"}), b"\x00 poison"))
    report = bank.reconcile()
    assert report.reconciled, report.lines()
    bank.change("customers", "UPDATE customers SET city = 'Bergen' WHERE customer_id = 1", land=False)
    assert differences(bank.reconcile()) == {"customers": (Difference(1, "different", ("city",)),)}


def test_a_record_too_large_for_the_warehouse_is_read_from_the_lake(bank: Bank) -> None:
    lake = settings_of(bank.tables.environment, S3Settings, bucket=BUCKET, prefix=bank.tables.name)
    row = bank.change(
        "customers", "UPDATE customers SET address_line = repeat('Ö', 10) WHERE customer_id = 1", land=False
    )
    event = bank.event("customers", "u", bank.xid(), row)
    name = "large/bank.public.customers/first/0/1.json.zst"
    record = Record(event["topic"], msgspec.json.encode(event["value"]), b"{}", event["partition"], event["offset"], 0)
    line, content = large_record_line(record, name)
    bank.land({**msgspec.json.decode(line), "key": event["key"]})
    with bank.snapshot() as source, pytest.raises(ReconcileError, match="no lake is configured"):
        bank.compare(source)
    with bank.snapshot() as source, pytest.raises(ReconcileError, match="cannot be read from the lake"):
        bank.compare(source, lake)
    bank.tables.store(name, zstandard.compress(content))
    with bank.snapshot() as source:
        assert bank.compare(source, lake).reconciled


def test_many_rows_are_read_page_by_page_and_many_differences_are_counted(bank: Bank) -> None:
    rows = bank.connection.execute(
        "INSERT INTO customers (name, country_code) SELECT 'Many', 'DE' FROM generate_series(1, %s) "
        "RETURNING *, pg_current_xact_id()::text AS xid",
        [2 * PAGE_ROWS + 1],
    ).fetchall()
    bank.connection.commit()
    events = [bank.event("customers", "c", int(row.pop("xid")), row) for row in rows]
    bank.land(*events)
    assert bank.reconcile().reconciled
    bank.connection.execute("UPDATE customers SET city = 'X' WHERE name = 'Many'")
    bank.connection.commit()
    found = bank.reconcile().tables["customers"]
    assert not found.equal
    assert len(found.differences) + found.more_differences == 2 * PAGE_ROWS + 1
    assert len(found.differences) == 100


def test_a_change_that_the_streams_refused_has_no_effect_in_the_warehouse(bank: Bank) -> None:
    bank.change("customers", "UPDATE customers SET city = 'Oslo' WHERE customer_id = 1", op="u")
    assert bank.reconcile().reconciled
    refused = {name: bank.landed[-1][name] for name in ("topic", "partition", "offset")}
    bank.tables.land({"DEAD_LETTERS": [bank.landed[-1] | {"topic": "bank.dead-letters", "value": refused}]})
    assert differences(bank.reconcile()) == {"customers": (Difference(1, "different", ("city",)),)}


def test_records_after_the_offsets_of_the_snapshot_do_not_count(bank: Bank) -> None:
    """Rows of an incremental snapshot name no transaction: only their position shows that they are later."""
    last: dict[TopicPartition, int] = {}
    for event in bank.landed:
        last[TopicPartition(event["topic"], event["partition"])] = event["offset"]
    with bank.snapshot() as source:
        row = bank.change("customers", "UPDATE customers SET city = 'Oslo' WHERE customer_id = 1", land=False)
        bank.land(bank.event("customers", "r", 0, row, txId=None, snapshot="incremental"))
        assert differences(bank.compare(source)) == {"customers": (Difference(1, "different", ("city",)),)}
        report = bank.compare(source, offsets=last)
    assert report.reconciled
    assert report.position.offsets == {f"{p.topic}/{p.partition}": offset for p, offset in last.items()}


def test_declared_tables_are_compared_in_the_order_of_any_key(bank: Bank) -> None:
    """Both sides must have the same order: texts by bytes, numbers by value, timestamps by time."""
    bank.declare()
    branches = ["a", "B", "Ä", "ä", "a b", "a-b", "", "Zürich", "\U0001f3e6", "\uff5e", "a'b\"c%s\\"]
    bank.insert("cards", *((number, branch, "10.50") for branch in branches for number in (10, 9, -1, 1 << 40)))
    bank.insert("loans", *((uuid4(), f"{number}.25", None) for number in range(40)))
    bank.insert(
        "fees",
        *(
            (factor, day, f"2026-03-02 09:00:{second}+00", "x")
            for factor in ("10", "9.5", "-1.25", "9.4999", "0")
            for day in ("1815-12-10", "0999-01-01", "2026-03-02")
            for second in ("07", "07.5", "07.123456", "08", "00")
        ),
    )
    report = bank.reconcile()
    assert report.lines() == []
    assert list(report.tables) == ["customers", "accounts", "transactions", "cards", "loans", "fees"]
    rows = {name: (table.source_rows, table.warehouse_rows) for name, table in report.tables.items()}
    assert (rows["cards"], rows["loans"], rows["fees"]) == ((44, 44), (40, 40), (75, 75))
    assert {name: sums.source for name, sums in report.tables["cards"].sums.items()} == {"card_limit": "462.00"}
    assert {name: sums.warehouse for name, sums in report.tables["loans"].sums.items()} == {"principal": "790.00"}
    assert report.tables["fees"].sums == {}


def test_differences_of_declared_tables_are_named_by_their_keys(bank: Bank) -> None:
    bank.declare()
    loan = str(uuid4())
    bank.insert("cards", (1, "Bern", "1.00"), (2, "Bern", "2.00"), (1, "\x1bUri", "3.00"))
    bank.insert("loans", (loan, "5.00", "a"))
    bank.insert("fees", ("1.5000", "2026-03-02", "2026-03-02 09:00:00.5+00", "x"))
    bank.change("cards", "UPDATE cards SET card_limit = 2.01 WHERE number = 2", op="u", land=False)
    bank.change("cards", "DELETE FROM cards WHERE branch <> 'Bern'", op="d", land=False)
    bank.change("loans", "UPDATE loans SET note = 'b'", op="u", land=False)
    bank.change("fees", "DELETE FROM fees", op="d", land=False)
    report = bank.reconcile()
    assert differences(report) == {
        "cards": (Difference(("\x1bUri", 1), "extra"), Difference(("Bern", 2), "different", ("card_limit",))),
        "loans": (Difference(loan, "different", ("note",)),),
        "fees": (Difference(("1.5", "2026-03-02", "2026-03-02T09:00:00.5"), "extra"),),
    }
    assert report.lines() == [
        'cards ["\\u001bUri",1] is in the warehouse and not in the source',
        'cards ["Bern",2] differs in card_limit',
        f'loans "{loan}" differs in note',
        'fees ["1.5","2026-03-02","2026-03-02T09:00:00.5"] is in the warehouse and not in the source',
    ]
    found = msgspec.json.decode(msgspec.json.encode(report))["tables"]
    assert [difference["key"] for difference in found["cards"]["differences"]] == [["\x1bUri", 1], ["Bern", 2]]
    assert found["loans"]["differences"] == [{"key": loan, "kind": "different", "columns": ["note"]}]


def test_rows_of_a_declared_table_are_deleted_and_moved_and_land_as_base64_like_all_others(bank: Bank) -> None:
    bank.declare()
    bank.insert("cards", (1, "Bern", "1.00"), (2, "Bern", "2.00"), (3, "Bern", "3.00"))
    bank.change("cards", "DELETE FROM cards WHERE number = 1", op="d")
    old = bank.change("cards", "UPDATE cards SET card_limit = 2.50 WHERE number = 2", op="u")
    new = bank.change("cards", "UPDATE cards SET branch = 'Uri' WHERE number = 2", land=False)
    bank.land(bank.event("cards", "d", bank.xid(), old), bank.event("cards", "c", bank.xid(), new))
    row = bank.change("cards", "UPDATE cards SET card_limit = 3.50 WHERE number = 3", land=False)
    bank.land(wrapped(event := bank.event("cards", "u", bank.xid(), row), msgspec.json.encode(event["value"])))
    report = bank.reconcile()
    assert report.lines() == []
    assert (report.tables["cards"].source_rows, report.tables["cards"].sums["card_limit"].source) == (2, "6.00")


def test_a_partial_snapshot_deletes_no_other_rows(bank: Bank) -> None:
    bank.declare()
    bank.insert("loans", (uuid4(), "1.00", None), (uuid4(), "2.00", None))
    row = bank.connection.execute("SELECT *, pg_current_xact_id()::text AS xid FROM loans LIMIT 1").fetchone()
    assert row is not None
    bank.connection.commit()
    bank.clock_ms = 1_000
    bank.land(bank.event("loans", "r", int(row.pop("xid")), row, lsn=90_000, snapshot="last"))
    assert len(differences(bank.reconcile())["loans"]) == 1
    tables = [replace(table, whole_snapshots=False) for table in bank.declaration.tables]
    bank.declaration = replace(bank.declaration, tables=tuple(tables))
    assert bank.reconcile().reconciled


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            CapturedTable("leases", {"id": "integer"}),
            r"no table public\.leases, which bank\.toml declares as \[leases\]\. Create it .* or remove it",
        ),
        (
            CapturedTable("loans", {"id": "integer"}),
            (
                r'public\.loans has \{ loan_id = "text" \} as its primary key, but bank\.toml declares \[loans\] with '
                r'\{ id = "integer" \}\. Correct the declaration'
            ),
        ),
        (CapturedTable("loans", {"loan_id": "integer"}), r'has \{ loan_id = "text" \} as its primary key'),
        (
            CapturedTable("cards", {"branch": "text"}),
            r'has \{ branch = "text", number = "integer" \} as its primary key',
        ),
    ],
)
def test_a_declaration_that_the_source_does_not_keep_is_an_error(
    bank: Bank, declared: CapturedTable, message: str
) -> None:
    bank.declare()
    bank.declaration = replace(bank.declaration, tables=(*bank.declaration.tables[:3], declared))
    with pytest.raises(ReconcileError, match=message):
        bank.reconcile()
