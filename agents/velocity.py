"""Counts each transaction once, at its event time, in its customer's windows, and evaluates the rules; no rule alerts on it twice.

A created or updated transaction emits a velocity record. The rules' outcomes are counted, and each rule that fires emits an alert. A
deleted transaction leaves the windows. So does a truncated one, whether the TRUNCATE or the transaction arrives first.
"""

from collections.abc import Iterable
from typing import get_args

import msgspec

from agents import metrics, truncations
from app.config.topics import ALERTS, VELOCITY
from app.domain.events import Event
from app.domain.records import TableCommand, TransactionRecord, VelocityRecord, encode, plain_id
from app.domain.rules.rule import RuleSet
from app.domain.rules.verdicts import Outcome
from app.domain.screening import Screening, TransactionChange, evaluate_rules, fired_marker, is_truncated, screen
from app.domain.velocity import CustomerHistory, History
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from app.native.history import NativeHistory, Rules
from app.native.library import Library
from app.native.velocity import CONCERNED, QUIET, Screener
from tables.truncations import TRUNCATIONS
from tables.velocity_events import EVENTS, EventKey, HistoryCache, decode_event, read_history

NAME = "transactions"
CACHED_EVENTS = 100_000

_MEMORY = "velocity"
_records = msgspec.json.Decoder(TransactionRecord)
_velocities = msgspec.json.Decoder(VelocityRecord)


def handler(rules: RuleSet, cached_events: int = CACHED_EVENTS, native: Library | None = None) -> RecordHandler:
    """Returns the handler of `bank.transactions`. `cached_events`: the limit, per partition, of events of all histories in memory.

    `native` handles the common transactions; the results are the same with and without it.
    """
    counts = metrics.RULES.counts
    for rule in rules.rules:
        for outcome in get_args(Outcome):
            counts.setdefault((rule.id, outcome), 0)
    if native is None or not Rules.holds(native, rules):
        return _Logic(rules, cached_events).apply
    return _NativeLogic(rules, cached_events, native).apply


class _Logic:
    """Handles each record in Python."""

    def __init__(self, rules: RuleSet, cached_events: int) -> None:
        self._rules, self._cached_events = rules, cached_events
        self._counts, self._none_fired = metrics.RULES.counts, metrics.RULES.batched(rules.none_fired)

    def apply(self, record: InputRecord, unit: UnitOfWork) -> None:
        """Implements `RecordHandler`."""
        change = _decode(record)
        histories, customer_id = self._histories(unit), change.record.customer_id
        history = self._take(histories, customer_id, unit)
        if not self._holds(history, change.event):
            history = History(self._rules.selections, history)
        result = screen(history, change, self._rules, now_us=unit.now_us, truncated_lsn=histories.truncated_lsn)
        histories.put(customer_id, history, history.size)
        _store(customer_id, result, unit)
        if result.velocity is not None:
            unit.emit(VELOCITY.name, key=record.key, value=encode(result.velocity))
        self._tell(record.key, result, unit)

    def _histories(self, unit: UnitOfWork) -> HistoryCache:
        histories = unit.cache.get(_MEMORY)
        if not isinstance(histories, HistoryCache):
            truncation = unit.table(TRUNCATIONS).get(NAME)
            histories = HistoryCache(self._cached_events, None if truncation is None else truncation.lsn)
            unit.cache[_MEMORY] = histories
        return histories

    def _take(self, histories: HistoryCache, customer_id: int, unit: UnitOfWork) -> CustomerHistory:
        """Removes a customer's history from the cache and returns it; reads it from the table if it is not cached."""
        history = histories.take(customer_id)
        return self._made(read_history(unit.table(EVENTS), customer_id)) if history is None else history

    def _made(self, events: Iterable[Event]) -> CustomerHistory:
        return History(self._rules.selections, events)

    def _holds(self, history: CustomerHistory, event: Event) -> bool:
        """Returns whether a history can hold an event."""
        del history, event
        return True

    def _tell(self, key: bytes | None, result: Screening, unit: UnitOfWork) -> None:
        for alert in result.alerts:
            unit.emit(ALERTS.name, key=key, value=encode(alert))
        if result.outcomes is self._none_fired.labels:
            self._none_fired.count += 1
        else:
            for looked in result.outcomes:
                self._counts[looked] += 1


class _NativeLogic(_Logic):
    """Handles the common transactions in the native library, and all others in Python on the library's histories."""

    def __init__(self, rules: RuleSet, cached_events: int, native: Library) -> None:
        super().__init__(rules, cached_events)
        self._native = Rules(native, rules)
        self._screener = Screener(self._native)

    def apply(self, record: InputRecord, unit: UnitOfWork) -> None:
        """Implements `RecordHandler`."""
        if not self._common(record, unit):
            super().apply(record, unit)

    def _common(self, record: InputRecord, unit: UnitOfWork) -> bool:
        """Handle a record if it is a common transaction. Returns whether it was."""
        key, value = record.key, record.value
        if key is None or value is None or (customer_id := plain_id(key, "customer_id")) is None:
            return False
        histories, events = self._histories(unit), unit.table(EVENTS)
        history, screened = self._take(histories, customer_id, unit), None
        if isinstance(history, NativeHistory):
            screened = self._screener.screen(history, value, customer_id, histories.truncated_lsn)
        if screened is None:
            histories.put(customer_id, history, history.size)
            return False
        histories.put(customer_id, history, screened.size)
        for gone in screened.expired:
            events.evict_encoded(gone)
        events.put_encoded(screened.key, screened.facts)
        unit.emit(VELOCITY.name, key=key, value=screened.velocity)
        if screened.look == QUIET:
            self._none_fired.count += 1
        elif screened.look == CONCERNED:
            self._judge(record, history, screened.velocity, unit)
        return True

    def _judge(self, record: InputRecord, history: CustomerHistory, velocity: bytes, unit: UnitOfWork) -> None:
        change = _decode(record)
        result = Screening(kept=change.event, velocity=_velocities.decode(velocity))
        evaluate_rules(history, change.record, result, self._rules, unit.now_us, is_known=change.record.op == "updated")
        if result.alerts:  # the stored event lists the rules that have fired
            _store(change.record.customer_id, result, unit)
        self._tell(record.key, result, unit)

    def _made(self, events: Iterable[Event]) -> CustomerHistory:
        read = list(events)
        if all(map(NativeHistory.holds, read)):
            return NativeHistory(self._native, read)
        return super()._made(read)

    def _holds(self, history: CustomerHistory, event: Event) -> bool:
        return not isinstance(history, NativeHistory) or history.holds(event)


def truncate(command: TableCommand, unit: UnitOfWork) -> None:
    """Remove the events that a TRUNCATE removed. Scans the whole partition. The markers of rules that have fired stay."""
    truncation = truncations.store(command, unit)
    events = unit.table(EVENTS)
    for raw, facts in events.scan():
        customer_id, event = decode_event(raw, facts)
        if is_truncated(event, truncation.lsn):
            marker = fired_marker(event)
            if marker is None:
                events.delete(_key(customer_id, event))
            elif marker != event:
                events.put(_key(customer_id, event), marker.facts)
    unit.cache.pop(_MEMORY, None)


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
    events = unit.table(EVENTS)
    for event in result.expired:
        events.evict(_key(customer_id, event))
    if result.gone is not None:
        events.delete(_key(customer_id, result.gone))
    if result.kept is not None:
        events.put(_key(customer_id, result.kept), result.kept.facts)


def _key(customer_id: int, event: Event) -> EventKey:
    return customer_id, event.time_us, event.account_id, event.transaction_id
