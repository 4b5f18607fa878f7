"""Joins changes of transactions in Python, record by record: the oracle of app/native/transactions.c and agents/transactions.py."""

import hashlib
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

import msgspec

from app.domain.changes import RowChange
from app.domain.money import to_decimal, to_minor
from app.domain.records import Attributes, Source, TransactionRecord
from app.domain.scd2 import is_replay, next_positions
from app.domain.times import normalize
from app.domain.transaction_join import ForwardedTransaction
from app.errors import PoisonRecordError

DIGEST_BYTES: Final = 8


class JoinedAccount(msgspec.Struct, frozen=True):
    """The account of a transaction at the time of the join. `attributes` is its row without the key column."""

    customer_id: int
    attributes: Attributes


class _Row(msgspec.Struct, gc=False):
    """The typed columns of a transaction. Other columns are only in the raw change and in the warehouse."""

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

_COORDINATE: Final = re.compile(r"-?\d{1,3}\.\d{1,18}", re.ASCII)
"""The usual form of a coordinate."""

Operation = Literal["created", "updated", "deleted"]


def apply_change(
    change: RowChange, passed: ForwardedTransaction | None, account: JoinedAccount | None, source: Source
) -> tuple[ForwardedTransaction | None, tuple[TransactionRecord, ...]]:
    """Apply a change of a transaction. Returns the new state (None: unchanged) and the records to emit, in order.

    `account` may be None only for a delete. If the account now belongs to another customer, the transaction is deleted for the previous
    customer and created for the new one. Raises PoisonRecordError if the row is not a transaction or a
    delete has no `before`; then the state stays unchanged.
    """
    if passed is not None and is_replay(passed, change):
        return None, ()
    lsn, snapshot_lsn = next_positions(passed, change)
    if change.operation == "d":
        if passed is None:
            return ForwardedTransaction(False, lsn, snapshot_lsn, customer_id=0, digest=b""), ()
        gone = ForwardedTransaction(False, lsn, snapshot_lsn, customer_id=passed.customer_id, digest=b"")
        if not passed.alive:
            return gone, ()
        if not change.before:
            raise _bad("no_row", "a deleted transaction came without `before`: set REPLICA IDENTITY FULL on the table")
        return gone, (_record("deleted", _encode(change.before), passed.customer_id, account, source),)
    assert change.after is not None
    assert account is not None
    row = _encode(change.after)
    digest = hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest()
    new = ForwardedTransaction(True, lsn, snapshot_lsn, account.customer_id, digest)
    if passed is None or not passed.alive:
        return new, (_record("created", row, account.customer_id, account, source),)
    if passed.customer_id != account.customer_id:
        return new, (
            _record("deleted", _encode(change.before) if change.before else row, passed.customer_id, account, source),
            _record("created", row, account.customer_id, account, source),
        )
    if passed.digest == digest:
        return new, ()
    return new, (_record("updated", row, account.customer_id, account, source),)


def _record(
    operation: Operation, row: bytes, customer_id: int, account: JoinedAccount | None, source: Source
) -> TransactionRecord:  # fmt: skip
    try:
        typed = _rows.decode(row)
    except msgspec.ValidationError as error:
        hint = (
            ". Money must come as text: set decimal.handling.mode=string on the connector"
            if "`str`" in str(error) and "amount" in str(error)
            else ""
        )
        raise _bad("bad_row", f"the row is no transaction: {error}{hint}") from None
    created_at = typed.created_at
    try:  # fast path: usually all values are valid; the handler finds the invalid one
        amount, booked_at = _amount(typed.amount), normalize(typed.booked_at)
        if created_at is not None:
            created_at = normalize(created_at)
    except (ValueError, OverflowError):
        amount = _checked("amount", "bad_amount", typed.amount, _amount)
        booked_at = _checked("booked_at", "bad_time", typed.booked_at, _instant)
        if created_at is not None:
            created_at = _checked("created_at", "bad_time", created_at, _instant)
    merchant_id, merchant_category, counterparty = (
        typed.merchant_id, typed.merchant_category, typed.counterparty_account,
    )  # fmt: skip
    return TransactionRecord(  # positional arguments: keyword arguments take twice the time
        operation,
        typed.transaction_id,
        typed.account_id,
        customer_id,
        typed.type,
        amount,
        typed.currency,
        typed.status,
        typed.channel,
        str(merchant_id) if isinstance(merchant_id, int) else merchant_id,
        str(merchant_category) if isinstance(merchant_category, int) else merchant_category,
        str(counterparty) if isinstance(counterparty, int) else counterparty,
        typed.country_code,
        None if typed.latitude is None else _coordinate("latitude", typed.latitude),
        None if typed.longitude is None else _coordinate("longitude", typed.longitude),
        str(typed.device_id) if isinstance(typed.device_id, int) else typed.device_id,
        typed.description,
        booked_at,
        created_at,
        account.attributes if account is not None else {},
        source,
    )


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
    if isinstance(value, str) and _COORDINATE.fullmatch(value):
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _bad("bad_row", f"{column}: {value!r} is not a number") from None
    if not number.is_finite():
        raise _bad("bad_row", f"{column}: {value!r} is not a number")
    return str(value)
