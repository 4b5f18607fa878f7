"""The transactions agent in Python: the oracle of agents/transactions.py. It decodes every change and encodes every record."""

import msgspec
from msgspec.structs import replace

from agents import metrics, truncations, waiting
from agents.sources import source_of
from agents.transactions import NAME, _account_id, _key
from app.cdc.envelope import decode, integer
from app.cdc.unavailable import resolve
from app.config.topics import TRANSACTIONS as TRANSACTIONS_TOPIC
from app.domain.records import encode, key_bytes
from app.domain.transaction_join import apply_truncate
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from tables.forwarded_transactions import FORWARDED_TRANSACTIONS
from tables.rows import ACCOUNTS, RowKey
from tables.truncations import TRUNCATIONS
from tests.support.oracle import transaction_join
from tests.support.oracle.transaction_join import JoinedAccount

_APPLIED, _UNCHANGED, _REPLAYED = ((NAME, effect) for effect in ("applied", "unchanged", "replayed"))
_counts = metrics.CHANGES.counts


def handler(limits: waiting.Limits) -> RecordHandler:
    """Returns a handler of the transactions' CDC topic."""

    def apply(record: InputRecord, unit: UnitOfWork) -> None:
        if not _apply(record, unit):
            waiting.hold(_account_id(record), record, limits, unit)

    return apply


def release(account: RowKey, unit: UnitOfWork) -> None:
    """Forward the records that waited for an account."""
    (account_id,) = account
    assert isinstance(account_id, int)
    for record in waiting.take(account_id, unit):
        try:
            _apply(record, unit)
        except PoisonRecordError as error:
            unit.dead_letter(record, error)


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
    gone = apply_truncate(new, truncation.lsn) if truncation is not None else None
    if gone is not None and records:  # the TRUNCATE, from another partition, was applied first: forward a deletion
        records = (*records, msgspec.structs.replace(records[-1], op="deleted"))
    passed_on.put(key, gone or new)
    for derived in records:
        unit.emit(
            TRANSACTIONS_TOPIC.name, key=key_bytes("customer_id", derived.customer_id), value=encode(derived)
        )  # fmt: skip
    return True


def _account(account_id: int, unit: UnitOfWork) -> JoinedAccount | None:
    """Returns the account of its last row, also after that row's deletion, because its transactions may arrive later than the deletion."""
    state = unit.table(ACCOUNTS).get((account_id,))
    if state is None or "customer_id" not in state.attributes:
        return None
    attributes = {name: value for name, value in state.attributes.items() if name not in ("account_id", "customer_id")}
    return JoinedAccount(integer(state.attributes["customer_id"], "customer_id"), attributes)
