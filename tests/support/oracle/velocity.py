"""The velocity agent in Python: the oracle of agents/velocity.py. It decodes every record."""

from typing import Final

import msgspec

from agents import metrics, truncations
from agents.velocity import NAME
from app.config.topics import ALERTS, VELOCITY
from app.domain.events import Event, Facts
from app.domain.records import TableCommand, TransactionRecord, encode
from app.domain.rules.rule import RuleSet
from app.domain.screening import is_truncated
from app.engine.partition_group import RecordHandler
from app.engine.table import Table
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from tables.encoding import after_prefix, number_key
from tables.truncations import TRUNCATIONS
from tables.velocity_events import EVENTS, EventKey, decode_event
from tests.support.oracle.history import History
from tests.support.oracle.screening import Screening, TransactionChange, screen

KEPT: Final[Table[EventKey, Facts]] = Table("kept", EVENTS.encode_key, EVENTS.encode, EVENTS.decode, is_logged=False)
"""The events of all histories, one entry each."""

_records = msgspec.json.Decoder(TransactionRecord)


def handler(rules: RuleSet) -> RecordHandler:
    """Returns a handler of `bank.transactions`."""
    counts = metrics.RULES.counts

    def apply(record: InputRecord, unit: UnitOfWork) -> None:
        change = _decode(record)
        customer_id, truncation = change.record.customer_id, unit.table(TRUNCATIONS).get(NAME)
        histories = unit.cache.setdefault(KEPT.name, {})
        history = histories.get(customer_id)
        if history is None:
            history = histories[customer_id] = History(rules.selections, _events(customer_id, unit))
        lsn = None if truncation is None else truncation.lsn
        result = screen(history, change, rules, now_us=unit.now_us, truncated_lsn=lsn)
        _store(customer_id, result, unit)
        if result.velocity is not None:
            unit.emit(VELOCITY.name, key=record.key, value=encode(result.velocity))
        for alert in result.alerts:
            unit.emit(ALERTS.name, key=record.key, value=encode(alert))
        for outcome in result.outcomes:
            counts[outcome] += 1

    return apply


def truncate(command: TableCommand, unit: UnitOfWork) -> None:
    """Removes the events that a TRUNCATE removed."""
    lsn = truncations.store(command, unit).lsn
    for raw, facts in list(unit.table(KEPT).scan()):
        customer_id, event = decode_event(raw, facts)
        if is_truncated(facts.lsn, lsn):
            marker = History(events=[event]).forget(event)
            if marker is None:
                _store(customer_id, Screening(gone=event), unit)
            elif marker != event:
                _store(customer_id, Screening(kept=marker), unit)
    unit.cache.pop(KEPT.name, None)


def _decode(record: InputRecord) -> TransactionChange:
    if record.value is None:
        raise PoisonRecordError("a transaction record without a value", reason="no_value")
    try:
        decoded = _records.decode(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonRecordError(f"this is no transaction record: {error}", reason="not_a_transaction") from None
    if record.key != b'{"customer_id":%d}' % decoded.customer_id:
        raise PoisonRecordError(
            f"the record's key is {record.key!r}, its customer {decoded.customer_id}", reason="key_mismatch"
        )
    try:
        return TransactionChange.of(decoded)
    except ValueError as error:
        raise PoisonRecordError(str(error), reason="bad_transaction") from None


def _store(customer_id: int, result: Screening, unit: UnitOfWork) -> None:
    log, kept = unit.table(EVENTS), unit.table(KEPT)
    for event in result.expired:
        kept.delete((customer_id, *event.key))
    if result.gone is not None:
        log.delete((customer_id, *result.gone.key))
        kept.delete((customer_id, *result.gone.key))
    if result.kept is not None:
        log.put((customer_id, *result.kept.key), result.kept.facts)
        kept.put((customer_id, *result.kept.key), result.kept.facts)


def _events(customer_id: int, unit: UnitOfWork) -> list[Event]:
    prefix = number_key(customer_id)
    return [decode_event(key, facts)[1] for key, facts in unit.table(KEPT).scan(prefix, after_prefix(prefix))]
