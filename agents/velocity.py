"""Velocity and rules. Rule: each change of a transaction is in its customer's windows once, in its place, and no rule alerts on it twice.

A created or updated transaction gives a velocity record; what it makes the rules say is counted, and what fires is an alert. A
deleted one leaves the windows. So does what a TRUNCATE took, whichever of the two comes first.
"""

from typing import get_args

import msgspec

from agents import metrics, truncates
from app.domain.events import Event
from app.domain.records import ControlRecord, TransactionRecord, encode
from app.domain.rules import RuleSet
from app.domain.screening import Change, Screening, husk_of, is_truncated, screen
from app.domain.verdicts import Outcome
from app.engine.group import Apply
from app.engine.unit import InputRecord, Unit
from app.errors import PoisonRecordError
from app.topics import ALERTS, VELOCITY
from tables.truncations import TRUNCATIONS
from tables.velocity import EVENTS, EventKey, Histories, event_at, read_history

NAME = "transactions"
CACHED_EVENTS = 100_000

_MEMORY = "velocity"
_records = msgspec.json.Decoder(TransactionRecord)


def handler(rules: RuleSet, cached_events: int = CACHED_EVENTS) -> Apply:
    """The logic for `bank.transactions`. `cached_events`: of how many events, in all, a partition keeps the histories in memory."""
    selections = rules.selections
    counts, quiet = metrics.RULES.counts, metrics.RULES.together(rules.quiet)
    for rule in rules.rules:
        for outcome in get_args(Outcome):
            counts.setdefault((rule.id, outcome), 0)

    def apply(record: InputRecord, unit: Unit) -> None:
        change = _decode(record)
        events, histories = unit.table(EVENTS), _histories(unit, cached_events)
        customer_id = change.record.customer_id
        history = histories.take(customer_id) or read_history(events, customer_id, selections)
        result = screen(history, change, rules, now_us=unit.now_us, truncated_lsn=histories.truncated_lsn)
        histories.keep(customer_id, history)
        _store(customer_id, result, unit)
        _emit(record.key, result, unit)
        if result.outcomes is quiet.labels:
            quiet.times += 1
        else:
            for looked in result.outcomes:
                counts[looked] += 1

    return apply


def truncated(order: ControlRecord, unit: Unit) -> None:
    """Take out what a TRUNCATE took. Reads the whole partition; the memory of what has fired stays."""
    truncation = truncates.remember(order, unit)
    events = unit.table(EVENTS)
    for raw, facts in events.scan():
        customer_id, event = event_at(raw, facts)
        if is_truncated(event, truncation.lsn):
            husk = husk_of(event)
            if husk is None:
                events.delete(_key(customer_id, event))
            elif husk != event:
                events.put(_key(customer_id, event), husk.facts)
    unit.memory.pop(_MEMORY, None)


def _decode(record: InputRecord) -> Change:
    if record.value is None:
        raise PoisonRecordError("a transaction record without a value", reason="no_value")
    try:
        decoded = _records.decode(record.value)
    except msgspec.MsgspecError as error:
        raise PoisonRecordError(f"this is no transaction record: {error}", reason="not_a_transaction") from None
    if record.key != b'{"customer_id":%d}' % decoded.customer_id:
        raise PoisonRecordError(
            f"the record's key is {record.key!r}, its customer {decoded.customer_id}", reason="key_mismatch"
        )
    try:
        return Change.of(decoded)
    except ValueError as error:
        raise PoisonRecordError(str(error), reason="bad_transaction") from None


def _histories(unit: Unit, cached_events: int) -> Histories:
    histories = unit.memory.get(_MEMORY)
    if not isinstance(histories, Histories):
        truncation = unit.table(TRUNCATIONS).get(NAME)
        histories = Histories(cached_events, None if truncation is None else truncation.lsn)
        unit.memory[_MEMORY] = histories
    return histories


def _store(customer_id: int, result: Screening, unit: Unit) -> None:
    events = unit.table(EVENTS)
    for event in result.expired:
        events.evict(_key(customer_id, event))
    if result.gone is not None:
        events.delete(_key(customer_id, result.gone))
    if result.kept is not None:
        events.put(_key(customer_id, result.kept), result.kept.facts)


def _emit(key: bytes | None, result: Screening, unit: Unit) -> None:
    if result.velocity is not None:
        unit.emit(VELOCITY.name, key=key, value=encode(result.velocity))
    for alert in result.alerts:
        unit.emit(ALERTS.name, key=key, value=encode(alert))


def _key(customer_id: int, event: Event) -> EventKey:
    return customer_id, event.time_us, event.account_id, event.transaction_id
