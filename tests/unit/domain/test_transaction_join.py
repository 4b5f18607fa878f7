"""Transactions: what each change gives, what is kept, how a row is written, and what is refused."""

import json
from typing import Any

import msgspec
import pytest

from app.domain import transaction_join as joins
from app.domain.changes import Operation, Row, RowChange
from app.errors import PoisonRecordError

ADA, BOB = 1, 2
"""Customers."""

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


def change(operation: Operation, lsn: int | None = 100, *, before: Row | None = None, **columns: Any) -> RowChange:
    after = None if operation == "d" else row(**columns)
    return RowChange("transactions", operation, before, after, lsn, 7, 0)


def written(**columns: Any) -> dict[str, Any]:
    """The columns of a record of a row with these columns."""
    found: dict[str, Any] = msgspec.json.decode(joins.common_row(row(**columns)))
    return found


def applied(one: RowChange, known: Any = None, customer: int | None = ADA) -> Any:
    """What is kept and emitted after a change."""
    digest = b"" if one.after is None else joins.digest_of(one.after)
    return joins.apply_change(one, digest, known, customer)


def kept(one: RowChange, known: Any = None) -> Any:
    """What is kept after a change that counts."""
    new, _ = applied(one, known)
    assert new is not None
    return new


def test_a_record_has_every_column_of_its_row() -> None:
    assert written(other=[1]) == COLUMNS | {
        "booked_at": "2026-03-02T09:00:00.000000Z",
        "created_at": "2026-03-02T09:00:00.500000Z",
    }


@pytest.mark.parametrize("column", NULLABLE)
def test_a_column_that_may_be_null_is_null_in_the_record(column: str) -> None:
    assert written(**{column: None}) == written() | {column: None}


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
    assert written(**{column: value})[column] == expected


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
        ({"transaction_id": 1 << 63}, "bad_row", "^transaction_id 9223372036854775808 does not fit in 64 bits$"),
        ({"account_id": -(1 << 63) - 1}, "bad_row", "^account_id -9223372036854775809 does not fit in 64 bits$"),
        ({"latitude": "north"}, "bad_row", "^latitude: 'north' is not a number$"),
        ({"longitude": "east"}, "bad_row", "^longitude: 'east' is not a number$"),
        ({"latitude": "NaN"}, "bad_row", "^latitude: 'NaN' is not a number$"),
        ({"longitude": "-Infinity"}, "bad_row", "^longitude: '-Infinity' is not a number$"),
    ],
)
def test_a_row_that_is_no_transaction_is_refused_by_column(columns: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(PoisonRecordError, match=says) as refused:
        written(**columns)
    assert (refused.value.reason, refused.value.stage) == (reason, "apply")


def test_the_least_amount_is_a_cent() -> None:
    assert written(amount="0.01")["amount"] == "0.01"


def test_one_bad_column_is_named_whatever_the_others_are() -> None:
    with pytest.raises(PoisonRecordError, match=r"^booked_at: "):
        written(booked_at="soon", created_at=None)
    with pytest.raises(PoisonRecordError, match=r"^created_at: "):
        written(created_at="soon", amount="5.00")


def test_a_replayed_change_keeps_and_emits_nothing() -> None:
    known = kept(change("c", 100))
    for again in (change("c", 100), change("u", 100, amount="9.00"), change("d", 90, before=row()), change("r", 100)):
        assert applied(again, known) == (None, ())


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
    _, forwards = applied(one, kept(change("c", 100)))
    assert [(it.op, it.customer_id, it.before) for it in forwards] == [(op, ADA, op == "deleted") for op in ops], why


def test_a_transaction_whose_account_changed_hands_is_deleted_for_one_and_created_for_the_other() -> None:
    one = change("u", 200, before=row(amount="5.00"), amount="9.00")
    new, forwards = applied(one, kept(change("c", 100)), BOB)
    assert forwards == (joins.Forward("deleted", ADA, before=True), joins.Forward("created", BOB))
    assert new.customer_id == BOB


def test_a_revived_transaction_is_created_again() -> None:
    gone = kept(change("d", 200, before=row()), kept(change("c", 100)))
    _, forwards = applied(change("c", 300), gone)
    assert forwards == (joins.Forward("created", ADA),)


def test_a_deletion_is_of_the_customer_that_had_the_transaction() -> None:
    _, forwards = applied(change("d", 200, before=row()), kept(change("c", 100)), None)
    assert forwards == (joins.Forward("deleted", ADA, before=True),)


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
    new, forwards = applied(change("d", 300), gone)
    assert (state(new), forwards) == ((False, 300, None, 1, 0), ())


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
