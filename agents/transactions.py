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
from app.domain.changes import Row, RowChange
from app.domain.records import TableCommand, encode, key_bytes, plain_id
from app.domain.scd2 import is_replay, next_positions
from app.domain.transaction_join import JoinedAccount
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from app.native.library import Library
from app.native.transaction_join import Joiner
from tables.encoding import decode_number_key
from tables.forwarded_transactions import FORWARDED_TRANSACTIONS, TransactionKey
from tables.rows import ACCOUNTS, RowKey
from tables.truncations import TRUNCATIONS

NAME = "transactions"

_TRUNCATION_KEY = TRUNCATIONS.encode_key(NAME)


class _Joined(msgspec.Struct, frozen=True):
    """The account's part of a joined record, decoded, with the row from which it was decoded."""

    row: Row
    account: JoinedAccount


class _Encoded(msgspec.Struct, frozen=True):
    """The account's part of a joined record, encoded, with the stored row from which it was encoded."""

    stored_key: bytes
    state: bytes
    customer_id: int
    key: bytes
    """The key of the customer's records."""
    attributes: bytes


_APPLIED, _UNCHANGED, _REPLAYED = ((NAME, effect) for effect in ("applied", "unchanged", "replayed"))
_counts = metrics.CHANGES.counts
for _effect in (_APPLIED, _UNCHANGED, _REPLAYED):
    _counts.setdefault(_effect, 0)


def handler(limits: waiting.Limits, native: Library | None = None) -> RecordHandler:
    """Returns the handler of the transactions' CDC topic. `native` handles the common changes, with the same results as Python."""
    joiner = None if native is None else Joiner(native)

    def apply(record: InputRecord, unit: UnitOfWork) -> None:
        if joiner is not None and _common(record, joiner, unit):
            return
        if not _apply(record, unit):
            waiting.hold(_account_id(record), record, limits, unit)

    return apply


def release(account: RowKey, unit: UnitOfWork) -> None:
    """Forward, in order, the records that waited for the account with this key. A poison record among them becomes a dead letter."""
    (account_id,) = account
    assert isinstance(account_id, int)
    for record in waiting.take(account_id, unit):
        try:
            _apply(record, unit)
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


def _apply(record: InputRecord, unit: UnitOfWork) -> bool:
    """Apply a change. Returns False, and changes nothing, if its account is not known yet."""
    change = decode(record.value, record.headers, NAME)
    if change is None:
        return True
    source = source_of(record, change)
    if change.operation == "t":
        truncations.broadcast(change, source, unit)
        return True
    key = _key(record, change)
    passed_on = unit.table(FORWARDED_TRANSACTIONS)
    passed = passed_on.get(key)
    if change.operation == "u":
        assert change.after is not None
        change = replace(change, after=resolve(change.after, change.before, None))
    account = _account(key[0], unit)
    if account is None and (change.operation != "d" or waiting.has_waiting(key[0], unit)):
        return False
    new, records = transaction_join.apply_change(change, passed, account, source)
    if new is None:
        _counts[_REPLAYED] += 1
        return True
    _counts[_APPLIED if records else _UNCHANGED] += 1
    truncation = unit.table(TRUNCATIONS).get(NAME)
    gone = transaction_join.apply_truncate(new, truncation.lsn) if truncation is not None else None
    if gone is not None and records:  # the TRUNCATE, from another partition, was applied first: forward a deletion
        records = (*records, msgspec.structs.replace(records[-1], op="deleted"))
    passed_on.put(key, gone or new)
    for derived in records:
        unit.emit(
            TRANSACTIONS_TOPIC.name, key=key_bytes("customer_id", derived.customer_id), value=encode(derived)
        )  # fmt: skip
    return True


def _common(record: InputRecord, joiner: Joiner, unit: UnitOfWork) -> bool:
    """Apply a common change: a new or updated transaction of a known account. Returns False, and changes nothing, for all others."""
    key, value = record.key, record.value
    if key is None or value is None:
        return False
    account_id = plain_id(key, "account_id")
    account = None if account_id is None else _encoded_account(account_id, unit)
    if account_id is None or account is None:
        return False
    joined = joiner.join(
        value, account_id, record.topic, record.partition, record.offset, account.attributes, account.customer_id
    )  # fmt: skip
    if joined is None:
        return False
    passed_on = unit.table(FORWARDED_TRANSACTIONS)
    raw_key = FORWARDED_TRANSACTIONS.encode_key((account_id, joined.transaction_id))
    raw = passed_on.get_encoded(raw_key)
    passed = None if raw is None else FORWARDED_TRANSACTIONS.decode(raw)
    if (passed is None) == (joined.operation == "u"):
        return False
    if passed is not None and (
        not passed.alive
        or passed.customer_id != account.customer_id
        or passed.digest == joined.digest
        or is_replay(passed, joined)
    ):
        return False
    lsn, snapshot_lsn = next_positions(passed, joined)
    new = transaction_join.ForwardedTransaction(True, lsn, snapshot_lsn, account.customer_id, joined.digest)
    truncation = unit.table(TRUNCATIONS).get_encoded(_TRUNCATION_KEY)
    if truncation is not None and transaction_join.apply_truncate(new, TRUNCATIONS.decode(truncation).lsn) is not None:
        return False
    passed_on.put_encoded(raw_key, FORWARDED_TRANSACTIONS.encode(new))
    unit.emit(TRANSACTIONS_TOPIC.name, key=account.key, value=joined.record)
    _counts[_APPLIED] += 1
    return True


def _encoded_account(account_id: int, unit: UnitOfWork) -> _Encoded | None:
    """Returns the result of `_account`, encoded as records contain it."""
    accounts, cached = unit.table(ACCOUNTS), unit.cache.get(("encoded account", account_id))
    if isinstance(cached, _Encoded) and cached.state == accounts.get_encoded(cached.stored_key):
        return cached
    stored_key = ACCOUNTS.encode_key((account_id,))
    state = accounts.get_encoded(stored_key)
    try:
        account = _account(account_id, unit)
    except PoisonRecordError:  # `_apply` reports errors of the change itself before errors of the account
        return None
    if state is None or account is None:
        return None
    key = key_bytes("customer_id", account.customer_id)
    encoded = _Encoded(stored_key, state, account.customer_id, key, msgspec.json.encode(account.attributes))
    unit.cache["encoded account", account_id] = encoded
    return encoded


def _account(account_id: int, unit: UnitOfWork) -> JoinedAccount | None:
    """Returns the account of its last row, also after that row's deletion, because its transactions may arrive later than the deletion."""
    state = unit.table(ACCOUNTS).get((account_id,))
    if state is None or "customer_id" not in state.attributes:
        return None
    cached = unit.cache.get(("account", account_id))
    if isinstance(cached, _Joined) and (cached.row is state.attributes or cached.row == state.attributes):
        return cached.account
    attributes = {name: value for name, value in state.attributes.items() if name not in ("account_id", "customer_id")}
    account = JoinedAccount(integer(state.attributes["customer_id"], "customer_id"), attributes)
    unit.cache["account", account_id] = _Joined(state.attributes, account)
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
