"""Tests the join of transactions to their account in Python: the records and the state after each change, and refused changes.

tests/agents/test_native.py compares the native library with it.
"""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from app.domain import transaction_join as joins
from app.domain.changes import Operation, Row, RowChange
from app.domain.records import Source, TransactionRecord
from app.domain.times import format_us
from app.errors import PoisonRecordError

ADA = joins.JoinedAccount(1, {"currency": "EUR", "status": "active"})
BOB = joins.JoinedAccount(2, {"currency": "USD", "status": "active"})

COLUMNS: dict[str, Any] = {
    "transaction_id": 7, "account_id": 5, "type": "debit", "amount": "12.30", "currency": "EUR", "status": "posted",
    "channel": "card", "merchant_id": "M1", "merchant_category": "5411", "counterparty_account": "A9", "country_code": "DE",
    "latitude": "48.137154", "longitude": "11.576124", "device_id": "d1", "description": "coffee",
    "booked_at": "2026-03-02T10:00:00+01:00", "created_at": "2026-03-02T09:00:00.5Z",
}  # fmt: skip

NULLABLE = (
    "channel", "merchant_id", "merchant_category", "counterparty_account", "country_code", "latitude", "longitude", "device_id",
    "description", "created_at",
)  # fmt: skip


def row(**columns: Any) -> Row:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in (COLUMNS | columns).items()}


def source(lsn: int | None = 100) -> Source:
    return Source("bank.public.transactions", 0, 3, lsn, 7, format_us(0))


def change(operation: Operation, lsn: int | None = 100, *, before: Row | None = None, **columns: Any) -> RowChange:
    after = None if operation == "d" else row(**columns)
    return RowChange("transactions", operation, before, after, lsn, 7, 0)


def created(**columns: Any) -> TransactionRecord:
    """The record of a new transaction of customer Ada with these columns."""
    _, (record,) = joins.apply_change(change("c", **columns), None, ADA, source())
    return record


def kept(one: RowChange, known: Any = None, account: joins.JoinedAccount = ADA) -> Any:
    """The state after a change that has an effect."""
    new, _ = joins.apply_change(one, known, account, source(one.lsn))
    assert new is not None
    return new


def test_a_record_has_every_column_of_its_row() -> None:
    assert created() == TransactionRecord(
        op="created", transaction_id=7, account_id=5, customer_id=1, type="debit", amount="12.30", currency="EUR", status="posted",
        channel="card", merchant_id="M1", merchant_category="5411", counterparty_account="A9", country_code="DE",
        latitude="48.137154", longitude="11.576124", device_id="d1", description="coffee",
        booked_at="2026-03-02T09:00:00.000000Z", created_at="2026-03-02T09:00:00.500000Z",
        account={"currency": "EUR", "status": "active"}, source=source(),
    )  # fmt: skip


@pytest.mark.parametrize("column", NULLABLE)
def test_a_column_that_may_be_null_is_null_in_the_record(column: str) -> None:
    assert created(**{column: None}) == replace(created(), **{column: None})


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("merchant_id", 17, "17"),
        ("merchant_category", 5411, "5411"),
        ("counterparty_account", 990, "990"),
        ("device_id", 4, "4"),
        ("latitude", 48.5, "48.5"),
        ("longitude", -11, "-11"),
        ("latitude", "48", "48"),
        ("longitude", "1.5e1", "1.5e1"),
    ],
)
def test_a_number_is_written_as_text(column: str, value: object, expected: str) -> None:
    assert getattr(created(**{column: value}), column) == expected


@pytest.mark.parametrize(
    ("columns", "reason", "says"),
    [
        ({"amount": 12.3}, "bad_row", r"the row is no transaction: .*decimal\.handling\.mode=string on the connector$"),
        ({"currency": 5}, "bad_row", r"the row is no transaction: [^.]*`\$\.currency`$"),
        ({"amount": None}, "bad_row", "decimal"),
        ({"type": "swap"}, "bad_row", r"the row is no transaction: Invalid enum value 'swap' - at `\$\.type`$"),
        ({"amount": "1.234"}, "bad_amount", "^amount: '1.234' has more than 2 digits"),
        ({"amount": "0.00"}, "bad_amount", "^amount: '0.00' is not positive"),
        ({"amount": "-1.00"}, "bad_amount", "^amount: '-1.00' is not positive"),
        ({"booked_at": "soon"}, "bad_time", "^booked_at: 'soon' is not an instant in the years 1 to 9999$"),
        ({"created_at": "soon"}, "bad_time", "^created_at: 'soon' is not an instant in the years 1 to 9999$"),
        ({"latitude": "north"}, "bad_row", "^latitude: 'north' is not a number$"),
        ({"longitude": "east"}, "bad_row", "^longitude: 'east' is not a number$"),
        ({"latitude": "NaN"}, "bad_row", "^latitude: 'NaN' is not a number$"),
        ({"longitude": "-Infinity"}, "bad_row", "^longitude: '-Infinity' is not a number$"),
    ],
)
def test_a_row_that_is_no_transaction_is_refused_by_column(columns: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(PoisonRecordError, match=says) as refused:
        created(**columns)
    assert (refused.value.reason, refused.value.stage) == (reason, "apply")


def test_the_smallest_amount_is_one_cent() -> None:
    assert created(amount="0.01").amount == "0.01"


def test_one_bad_column_is_named_whatever_the_others_are() -> None:
    with pytest.raises(PoisonRecordError, match=r"^booked_at: "):
        created(booked_at="soon", created_at=None)
    with pytest.raises(PoisonRecordError, match=r"^created_at: "):
        created(created_at="soon", amount="5.00")


def test_a_replayed_change_keeps_and_emits_nothing() -> None:
    known = kept(change("c", 100))
    for again in (change("c", 100), change("u", 100, amount="9.00"), change("d", 90, before=row()), change("r", 100)):
        assert joins.apply_change(again, known, ADA, source(again.lsn)) == (None, ())


@pytest.mark.parametrize(
    ("one", "ops", "why"),
    [
        (change("u", 200, amount="9.00"), ["updated"], "another row"),
        (change("u", 200), [], "a row that says the same"),
        (change("r", 200), [], "a snapshot that found the same"),
        (change("d", 200, before=row()), ["deleted"], "a deletion"),
    ],
)
def test_a_known_transaction_is_emitted_again_only_if_it_changed(one: RowChange, ops: list[str], why: str) -> None:
    _, records = joins.apply_change(one, kept(change("c", 100)), ADA, source(200))
    assert [record.op for record in records] == ops, why
    assert all(record.account == ADA.attributes for record in records), why


def test_a_transaction_whose_account_changed_hands_is_deleted_for_one_and_created_for_the_other() -> None:
    one = change("u", 200, before=row(amount="5.00"), amount="9.00")
    new, records = joins.apply_change(one, kept(change("c", 100)), BOB, source(200))
    assert [(it.op, it.customer_id, it.amount) for it in records] == [("deleted", 1, "5.00"), ("created", 2, "9.00")]
    assert [it.account for it in records] == [BOB.attributes] * 2
    assert new is not None
    assert new.customer_id == 2
    _, (gone, _) = joins.apply_change(replace(one, before=None), kept(change("c", 100)), BOB, source(200))
    assert gone.amount == "9.00", "without `before`, what it has now is all that is known"


def test_a_revived_transaction_is_created_again() -> None:
    gone = kept(change("d", 200, before=row()), kept(change("c", 100)))
    _, (record,) = joins.apply_change(change("c", 300), gone, ADA, source(300))
    assert record.op == "created"


def test_a_deletion_names_the_customer_that_had_the_transaction() -> None:
    _, (record,) = joins.apply_change(change("d", 200, before=row()), kept(change("c", 100)), None, source(200))
    assert (record.op, record.customer_id, record.amount, record.account) == ("deleted", 1, "12.30", {})


def test_a_deletion_without_the_row_is_refused() -> None:
    with pytest.raises(PoisonRecordError, match=r"^a deleted transaction came without `before`") as refused:
        joins.apply_change(change("d", 200), kept(change("c", 100)), ADA, source(200))
    assert (refused.value.reason, refused.value.stage) == ("no_row", "apply")


def state(known: Any) -> tuple[bool, int | None, int | None, int, int]:
    """The state, with the length of the digest in place of the digest."""
    return known.alive, known.lsn, known.snapshot_lsn, known.customer_id, len(known.digest)


def test_the_stored_state_has_owner_position_and_whether_the_row_exists() -> None:
    read = kept(change("r", 100))
    updated = kept(change("u", 150, amount="9.00"), read)
    deleted = kept(change("d", 200, before=row()), updated)
    assert [state(it) for it in (read, updated, deleted)] == [
        (True, None, 100, 1, joins.DIGEST_BYTES),
        (True, 150, 100, 1, joins.DIGEST_BYTES),
        (False, 200, 100, 1, 0),
    ]
    assert read.digest != updated.digest
    assert state(kept(change("d", 200))) == (False, 200, None, 0, 0), "of one that was never known"


def test_a_second_deletion_moves_the_position_and_emits_nothing() -> None:
    gone = kept(change("d", 200, before=row()), kept(change("c", 100)))
    new, records = joins.apply_change(change("d", 300), gone, ADA, source(300))
    assert (new is not None and state(new), records) == ((False, 300, None, 1, 0), ())


@pytest.mark.parametrize(
    ("known", "expected", "why"),
    [
        (change("c", 100), (False, 150, None, 1, 0), "older than the TRUNCATE"),
        (change("r", 120), (False, 150, 120, 1, 0), "read by an older snapshot"),
        (change("c", 150), None, "of the same position"),
        (change("c", 200), None, "younger"),
        (change("d", 100), None, "gone already"),
        (change("c", None), (False, 150, None, 1, 0), "without a position"),
    ],
)
def test_a_truncate_deletes_older_transactions(known: RowChange, expected: object, why: str) -> None:
    gone = joins.apply_truncate(kept(known), 150)
    assert (gone and state(gone)) == expected, why
