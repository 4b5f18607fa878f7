"""Decides which records a change of a transaction's row gives, keyed by customer, and checks and writes the row. Pure.

app/native/transactions.c reads and writes the rows that PostgreSQL and Debezium wrote in their usual form; here is what is done with
all others.
"""

import hashlib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

import msgspec

from app.domain.changes import Row
from app.domain.money import to_decimal, to_minor
from app.domain.scd2 import PositionedChange, is_older, is_replay, next_positions
from app.domain.times import normalize
from app.errors import PoisonRecordError

DIGEST_BYTES: Final = 8


class ForwardedTransaction(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state of a forwarded transaction. It stays after a deletion, so that a replay cannot recreate the transaction."""

    alive: bool
    lsn: int | None
    snapshot_lsn: int | None
    customer_id: int
    digest: bytes
    """The digest of the row that was forwarded last: a repeated row gives no record."""


Op = Literal["created", "updated", "deleted"]


class Forward(msgspec.Struct, frozen=True, gc=False):
    """A record to emit for a customer. `before`: it has the row before the change, if the source sent it, else the row after it."""

    op: Op
    customer_id: int
    before: bool = False


class _Row(msgspec.Struct, gc=False):
    """The columns of a transaction that its records have. Other columns are only in the raw change and in the warehouse."""

    transaction_id: int
    account_id: int
    type: Literal["credit", "debit"]
    amount: str
    currency: str
    status: str
    booked_at: str
    channel: str | None = None
    merchant_id: str | int | None = None
    merchant_category: str | int | None = None
    counterparty_account: str | int | None = None
    country_code: str | None = None
    latitude: str | int | float | None = None
    longitude: str | int | float | None = None
    device_id: str | int | None = None
    description: str | None = None
    created_at: str | None = None


_rows: Final = msgspec.json.Decoder(_Row)
_encode: Final = msgspec.json.Encoder().encode


def digest_of(row: Row) -> bytes:
    """Returns the digest of a row by which it is recognised."""
    return hashlib.blake2b(_encode(row), digest_size=DIGEST_BYTES).digest()


def apply_change(
    change: PositionedChange, digest: bytes, passed: ForwardedTransaction | None, customer_id: int | None
) -> tuple[ForwardedTransaction | None, tuple[Forward, ...]]:
    """Apply a change of a transaction. Returns the new state (None: the change was applied before) and the records to emit, in order.

    `digest` is that of the row after the change, and `customer_id` the account's customer; a delete needs neither. If the account now
    belongs to another customer, the transaction is deleted for the previous customer and created for the new one.
    """
    if passed is not None and is_replay(passed, change):
        return None, ()
    lsn, snapshot_lsn = next_positions(passed, change)
    if change.operation == "d":
        gone = ForwardedTransaction(False, lsn, snapshot_lsn, 0 if passed is None else passed.customer_id, b"")
        if passed is None or not passed.alive:
            return gone, ()
        return gone, (Forward("deleted", passed.customer_id, before=True),)
    assert customer_id is not None
    new = ForwardedTransaction(True, lsn, snapshot_lsn, customer_id, digest)
    if passed is None or not passed.alive:
        return new, (Forward("created", customer_id),)
    if passed.customer_id != customer_id:
        return new, (Forward("deleted", passed.customer_id, before=True), Forward("created", customer_id))
    if passed.digest == digest:
        return new, ()
    return new, (Forward("updated", customer_id),)


def apply_truncate(passed: ForwardedTransaction, lsn: int) -> ForwardedTransaction | None:
    """Returns the state after a TRUNCATE at this log position; None if the transaction is newer or already deleted."""
    if not passed.alive or not is_older(passed, lsn):
        return None
    return ForwardedTransaction(False, lsn, passed.snapshot_lsn, customer_id=passed.customer_id, digest=b"")


def common_row(row: Row) -> bytes:
    """Returns the columns of a transaction's row as its records have them. Raises PoisonRecordError, naming the column that is invalid."""
    try:
        typed = _rows.decode(_encode(row))
    except msgspec.ValidationError as error:
        hint = (
            ". Money must come as text: set decimal.handling.mode=string on the connector"
            if "`str`" in str(error) and "amount" in str(error)
            else ""
        )
        raise _bad("bad_row", f"the row is no transaction: {error}{hint}") from None
    for name, number in (("transaction_id", typed.transaction_id), ("account_id", typed.account_id)):
        if not -(1 << 63) <= number < 1 << 63:
            raise _bad("bad_row", f"{name} {number} does not fit in 64 bits")
    typed.amount = _checked("amount", "bad_amount", typed.amount, _amount)
    typed.booked_at = _checked("booked_at", "bad_time", typed.booked_at, _instant)
    if typed.created_at is not None:
        typed.created_at = _checked("created_at", "bad_time", typed.created_at, _instant)
    for name in ("merchant_id", "merchant_category", "counterparty_account", "device_id"):
        value = getattr(typed, name)
        if isinstance(value, int):
            setattr(typed, name, str(value))
    for name in ("latitude", "longitude"):
        value = getattr(typed, name)
        if value is not None:
            setattr(typed, name, _coordinate(name, value))
    return _encode(typed)


def _checked(column: str, reason: str, text: str, read: Callable[[str], str]) -> str:
    try:
        return read(text)
    except ValueError as error:
        raise _bad(reason, f"{column}: {error}") from None


def _bad(reason: str, message: str) -> PoisonRecordError:
    return PoisonRecordError(message, reason=reason, stage="apply")


def _amount(text: str) -> str:
    minor = to_minor(text)
    if minor <= 0:
        raise ValueError(f"{text!r} is not positive; whether money comes or goes is the transaction's type")
    return to_decimal(minor)


def _instant(text: str) -> str:
    try:
        return normalize(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not an instant in the years 1 to 9999") from None


def _coordinate(column: str, value: str | float) -> str:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _bad("bad_row", f"{column}: {value!r} is not a number") from None
    if not number.is_finite():
        raise _bad("bad_row", f"{column}: {value!r} is not a number")
    return str(value)
