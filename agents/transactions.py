"""Forwards each change of a transaction once, joined to its account, to its customer's partition.

A change that arrives before its account's row waits in state, in order, until the row arrives. The number and the age of waiting records
are bounded; beyond either bound the record becomes a dead letter with the reason `unknown_account`.
"""

from functools import lru_cache

import msgspec
from msgspec.structs import replace

from agents import metrics, truncations, waiting
from agents.sources import source_of
from app.cdc.envelope import decode, decode_key, integer
from app.cdc.unavailable import resolve
from app.config.topics import TRANSACTIONS as TRANSACTIONS_TOPIC
from app.domain import transaction_join
from app.domain.changes import Operation, RowChange
from app.domain.records import TableCommand, plain_id
from app.domain.transaction_join import Forward
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from app.native.transaction_join import Joined, Joiner, with_op
from tables.encoding import decode_number_key
from tables.forwarded_transactions import FORWARDED_TRANSACTIONS, TransactionKey
from tables.rows import ACCOUNTS, RowKey
from tables.truncations import TRUNCATIONS

NAME = "transactions"

_TRUNCATION_KEY = TRUNCATIONS.encode_key(NAME)


class _Account(msgspec.Struct, frozen=True):
    """An account as records contain it, with the stored row from which it was encoded."""

    stored_key: bytes
    state: bytes
    customer_id: int
    attributes: bytes
    """The JSON of its row without the key columns."""


class _Decoded(msgspec.Struct, frozen=True, gc=False):
    """A change that Python read, with what `Joined` has of it. `record` is empty: its records are written row by row."""

    change: RowChange
    operation: Operation
    lsn: int | None
    digest: bytes
    transaction_id: int
    record: bytes = b""


_Read = tuple[int, _Account | None, Joined | _Decoded]
"""A change with its account's id and its account."""

_APPLIED, _UNCHANGED, _REPLAYED = ((NAME, effect) for effect in ("applied", "unchanged", "replayed"))
_counts = metrics.CHANGES.counts
for _effect in (_APPLIED, _UNCHANGED, _REPLAYED):
    _counts.setdefault(_effect, 0)


def handler(limits: waiting.Limits, joiner: Joiner) -> RecordHandler:
    """Returns the handler of the transactions' CDC topic."""

    def apply(record: InputRecord, unit: UnitOfWork) -> None:
        if not _apply(record, joiner, unit):
            waiting.hold(_account_id(record), record, limits, unit)

    return apply


def release(joiner: Joiner, account: RowKey, unit: UnitOfWork) -> None:
    """Forward, in order, the records that waited for the account with this key. A poison record among them becomes a dead letter."""
    (account_id,) = account
    assert isinstance(account_id, int)
    for record in waiting.take(account_id, unit):
        try:
            _apply(record, joiner, unit)
        except PoisonRecordError as error:
            unit.dead_letter(record, error)


def truncate(command: TableCommand, unit: UnitOfWork) -> None:
    """Mark the transactions that a TRUNCATE removed, so that replays of them are not forwarded. The velocity agent receives the command
    from the control topic itself."""
    truncation = truncations.store(command, unit)
    passed_on = unit.table(FORWARDED_TRANSACTIONS)
    for raw_key, passed in list(passed_on.scan()):
        gone = transaction_join.apply_truncate(passed, truncation.lsn)
        if gone is not None:
            account_id, transaction_id = decode_number_key(raw_key)
            passed_on.put((account_id, transaction_id), gone)


def _apply(record: InputRecord, joiner: Joiner, unit: UnitOfWork) -> bool:
    """Apply a change. Returns False, and changes nothing, if its account is not known yet."""
    read = _read(record, joiner, unit) or _decode(record, unit)
    if read is None:
        return True
    account_id, account, change = read
    if account is None and (change.operation != "d" or waiting.has_waiting(account_id, unit)):
        return False
    table = unit.table(FORWARDED_TRANSACTIONS)
    raw_key = FORWARDED_TRANSACTIONS.encode_key((account_id, change.transaction_id))
    raw = table.get_encoded(raw_key)
    passed = None if raw is None else FORWARDED_TRANSACTIONS.decode(raw)
    new, forwards = transaction_join.apply_change(
        change, change.digest, passed, None if account is None else account.customer_id
    )
    if new is None:
        _counts[_REPLAYED] += 1
        return True
    truncation = unit.table(TRUNCATIONS).get_encoded(_TRUNCATION_KEY)
    gone = None
    if truncation is not None:
        gone = transaction_join.apply_truncate(new, TRUNCATIONS.decode(truncation).lsn)
    if gone is not None and forwards:  # the TRUNCATE, from another partition, was applied first: forward a deletion
        forwards = (*forwards, replace(forwards[-1], op="deleted"))
    records = [
        (
            forward.customer_id,
            with_op(change.record, forward.op)
            if change.record and not forward.before
            else _written(record, change, account, forward, joiner),
        )
        for forward in forwards
    ]
    _counts[_APPLIED if records else _UNCHANGED] += 1
    table.put_encoded(raw_key, FORWARDED_TRANSACTIONS.encode(gone or new))
    for customer_id, value in records:
        unit.emit(TRANSACTIONS_TOPIC.name, key=b'{"customer_id":%d}' % customer_id, value=value)
    return True


def _read(record: InputRecord, joiner: Joiner, unit: UnitOfWork) -> _Read | None:
    """Returns a change in the common form, of a known account. None if it is anything else: `_decode` says what."""
    account_id = plain_id(record.key or b"", "account_id")
    if account_id is None or record.value is None:
        return None
    try:
        account = _account(account_id, unit)
    except PoisonRecordError:  # errors of the change come before errors of its account
        return None
    if account is None:
        return None
    joined = joiner.join(
        record.value, account_id, (record.topic, record.partition, record.offset), account.attributes, account.customer_id
    )  # fmt: skip
    return None if joined is None else (account_id, account, joined)


def _decode(record: InputRecord, unit: UnitOfWork) -> _Read | None:
    """Decodes a change of any form. Returns None if it is none of a transaction; a TRUNCATE is broadcast."""
    change = decode(record.value, record.headers, NAME)
    if change is None:
        return None
    if change.operation == "t":
        truncations.broadcast(change, source_of(record, change), unit)
        return None
    (account_id, transaction_id), digest = _key(record, change), b""
    if change.after is not None:
        if change.operation == "u":
            change = replace(change, after=resolve(change.after, change.before, None))
        assert change.after is not None
        digest = transaction_join.digest_of(change.after)
    decoded = _Decoded(change, change.operation, change.lsn, digest, transaction_id)
    return account_id, _account(account_id, unit), decoded


def _written(
    record: InputRecord, change: Joined | _Decoded, account: _Account | None, forward: Forward, joiner: Joiner
) -> bytes:
    """Writes a record of a row that Python read. Raises PoisonRecordError if the row is no transaction."""
    decoded = change.change if isinstance(change, _Decoded) else decode(record.value, record.headers, NAME)
    assert decoded is not None
    row = (decoded.before if forward.before else None) or decoded.after
    assert row is not None, "a change without any row has no key either"
    attributes = b"{}" if account is None else account.attributes
    place = record.topic, record.partition, record.offset
    written = joiner.write(transaction_join.common_row(row), decoded, place, attributes, forward.customer_id)
    return with_op(written, forward.op)


def _account(account_id: int, unit: UnitOfWork) -> _Account | None:
    """Returns the account of its last row, also after that row's deletion, because its transactions may arrive later than the deletion."""
    accounts, cached = unit.table(ACCOUNTS), unit.cache.get(("account", account_id))
    if isinstance(cached, _Account) and cached.state == accounts.get_encoded(cached.stored_key):
        return cached
    stored_key = ACCOUNTS.encode_key((account_id,))
    state = accounts.get_encoded(stored_key)
    row = None if state is None else ACCOUNTS.decode(state).attributes
    if state is None or row is None or "customer_id" not in row:
        return None
    attributes = {name: value for name, value in row.items() if name not in ("account_id", "customer_id")}
    account = _Account(stored_key, state, integer(row["customer_id"], "customer_id"), msgspec.json.encode(attributes))
    unit.cache["account", account_id] = account
    return account


def _account_id(record: InputRecord) -> int:
    """Returns the account_id of the record's key. Raises PoisonRecordError for a key without it."""
    return _of_short_key(record.key) if record.key is not None and len(record.key) < 64 else _of_key(record.key)


def _of_key(raw: bytes | None) -> int:
    key = decode_key(raw)
    if "account_id" not in key:
        raise PoisonRecordError(
            "the record's key has no column 'account_id': set message.key.columns=public.transactions:account_id",
            reason="no_key",
        )
    return integer(key["account_id"], "account_id")


_of_short_key = lru_cache(maxsize=65_536)(_of_key)


def _key(record: InputRecord, change: RowChange) -> TransactionKey:
    account_id = _account_id(record)
    row = change.after if change.after is not None else change.before
    if not row or "transaction_id" not in row:
        raise PoisonRecordError(
            f"op {change.operation!r} does not say which transaction_id: set REPLICA IDENTITY FULL on the table",
            reason="no_row",
        )
    in_row = row.get("account_id")
    if (
        in_row is not None
        and record.key != b'{"account_id":%b}' % in_row
        and integer(in_row, "account_id") != account_id
    ):
        raise PoisonRecordError(
            f"the record's key says account {account_id}, its row {bytes(in_row)[:40]!r}",
            reason="key_mismatch",
        )
    return account_id, integer(row["transaction_id"], "transaction_id")
