"""Counts each transaction once, at its event time, in its customer's windows, and evaluates the rules; no rule alerts on it twice.

A created or updated transaction emits a velocity record. The rules' outcomes are counted, and each rule that fires emits an alert. A
deleted transaction leaves the windows. So does a truncated one, whether the TRUNCATE or the transaction arrives first.
"""

from typing import get_args

import msgspec
from msgspec.structs import replace

from agents import metrics, truncations
from agents.history_cache import HistoryCache
from app.config.topics import ALERTS, VELOCITY
from app.domain.common_form import common_form
from app.domain.events import Event
from app.domain.records import TableCommand, TransactionRecord, VelocityRecord, encode, plain_id
from app.domain.rules.rule import RuleSet
from app.domain.rules.verdicts import Outcome
from app.domain.screening import Evaluation, evaluate_rules, is_truncated
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from app.native.history import NativeHistory, Rules
from app.native.library import Library
from app.native.velocity import CONCERNED, QUIET, UNKNOWN, UNSEEN, Screened, Screener
from tables.encoding import after_prefix, number_key
from tables.truncations import TRUNCATIONS
from tables.velocity_events import EVENTS, decode_event
from tables.velocity_histories import HISTORIES, histories, read_history

NAME = "transactions"
CACHE_BYTES = 64 << 20

_MEMORY = "velocity"
_records = msgspec.json.Decoder(TransactionRecord)
_velocities = msgspec.json.Decoder(VelocityRecord)


def handler(rules: RuleSet, library: Library, cache_bytes: int = CACHE_BYTES) -> RecordHandler:
    """Returns the handler of `bank.transactions`. `cache_bytes`: the limit, per partition, of all histories in memory.

    Raises RulesError if the library has no room for the rules.
    """
    counts = metrics.RULES.counts
    for rule in rules.rules:
        for outcome in get_args(Outcome):
            counts.setdefault((rule.id, outcome), 0)
    return _Handler(rules, library, cache_bytes).apply


class _Handler:
    """Applies each record to its customer's history in the native library, and evaluates the rules that it names."""

    def __init__(self, rules: RuleSet, library: Library, cache_bytes: int) -> None:
        self._rules, self._cache_bytes = rules, cache_bytes
        self._native = Rules(library, rules)
        self._screener = Screener(self._native)
        self._counts, self._none_fired = metrics.RULES.counts, metrics.RULES.batched(rules.none_fired)
        self._without_rules = {
            UNSEEN: Evaluation(()),
            QUIET: Evaluation(rules.none_fired),
            CONCERNED: Evaluation(()),
            UNKNOWN: Evaluation(rules.none_evaluated),
        }

    def apply(self, record: InputRecord, unit: UnitOfWork) -> None:
        """Implements `RecordHandler`."""
        customer_id = plain_id(record.key or b"", "customer_id")
        if customer_id is None or record.value is None:
            _rewritten(record)
            raise AssertionError("a transaction record with a customer of its own has a key without one")
        histories = self._histories(unit)
        history = histories.take(customer_id)
        if history is None:
            history = self._read(customer_id, unit)
        try:
            screened = self._screener.screen(history, record.value, customer_id)
            if screened is None:
                screened = self._screener.screen(history, _rewritten(record), customer_id)
                assert screened is not None, (
                    "the native library does not read a record that Python wrote in the common form"
                )
        except PoisonRecordError:  # the history has not changed
            histories.put(customer_id, history)
            raise
        self._conclude(record, history, screened, histories.truncated_lsn, unit)
        _store(customer_id, history, unit)
        histories.put(customer_id, history)  # one whose change is not stored is read again

    def _conclude(
        self, record: InputRecord, history: NativeHistory, screened: Screened, truncated_lsn: int | None, unit: UnitOfWork
    ) -> None:  # fmt: skip
        """Evaluate the rules if they must be, log the change of the history and emit the records."""
        evaluation, facts, gone = self._without_rules[screened.look], screened.facts, screened.gone
        if screened.look == CONCERNED:
            evaluation = self._evaluate(history, record, screened, unit.now_us)
        if evaluation.alerts or truncated_lsn is not None:
            facts, gone = _settled(history, screened, evaluation, truncated_lsn)
        events = unit.table(EVENTS)
        if gone:
            events.delete_encoded(gone)
        if facts:
            events.put_encoded(screened.key, facts)
        if screened.velocity:
            unit.emit(VELOCITY.name, key=record.key, value=screened.velocity)
        for alert in evaluation.alerts:
            unit.emit(ALERTS.name, key=record.key, value=encode(alert))
        if evaluation.outcomes is self._none_fired.labels:
            self._none_fired.count += 1
        else:
            for outcome in evaluation.outcomes:
                self._counts[outcome] += 1

    def _histories(self, unit: UnitOfWork) -> HistoryCache:
        histories = unit.cache.get(_MEMORY)
        if not isinstance(histories, HistoryCache):
            truncation = unit.table(TRUNCATIONS).get(NAME)
            histories = HistoryCache(self._cache_bytes, None if truncation is None else truncation.lsn)
            unit.cache[_MEMORY] = histories
        return histories

    def _read(self, customer_id: int, unit: UnitOfWork) -> NativeHistory:
        prefix = number_key(customer_id)
        return read_history(unit.table(HISTORIES).scan(prefix, after_prefix(prefix)), self._native)

    def _evaluate(self, history: NativeHistory, record: InputRecord, screened: Screened, now_us: int) -> Evaluation:
        windows = _velocities.decode(screened.velocity).windows
        return evaluate_rules(history, _decode(record), _event(screened), windows, self._rules, now_us)


def truncate(command: TableCommand, unit: UnitOfWork) -> None:
    """Remove the events that a TRUNCATE removed. Scans the whole partition. The markers of rules that have fired stay."""
    truncation = truncations.store(command, unit)
    events = unit.table(EVENTS)
    for customer_id, history in histories(unit.table(HISTORIES)):
        for event in list(history):
            if is_truncated(event.facts.lsn, truncation.lsn):
                marker = history.forget(event)
                if marker is None:
                    events.delete((customer_id, *event.key))
                elif marker != event:
                    events.put((customer_id, *event.key), marker.facts)
        _store(customer_id, history, unit)
    unit.cache.pop(_MEMORY, None)


def _rewritten(record: InputRecord) -> bytes:
    """Returns the record in the common form. Raises PoisonRecordError if it is no transaction of the customer of its key."""
    decoded = _decode(record)
    if record.key != b'{"customer_id":%d}' % decoded.customer_id:
        raise PoisonRecordError(
            f"the record's key is {record.key!r}, its customer {decoded.customer_id}", reason="key_mismatch"
        )
    try:
        return common_form(decoded)
    except ValueError as error:
        raise PoisonRecordError(str(error), reason="bad_transaction") from None


def _decode(record: InputRecord) -> TransactionRecord:
    if record.value is None:
        raise PoisonRecordError("a transaction record without a value", reason="no_value")
    try:
        return _records.decode(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonRecordError(f"this is no transaction record: {error}", reason="not_a_transaction") from None


def _settled(
    history: NativeHistory, screened: Screened, evaluation: Evaluation, truncated_lsn: int | None
) -> tuple[bytes, bytes]:
    """Returns the facts to store and the key to delete (empty: none), once the rules that fired and the last TRUNCATE are considered."""
    facts, gone = screened.facts, screened.gone
    if evaluation.alerts:
        event = _event(screened)
        event = replace(event, facts=replace(event.facts, fired=evaluation.fired))
        history.put(event)
        facts = EVENTS.encode(event.facts)
    if screened.velocity and facts and is_truncated(screened.lsn, truncated_lsn):
        marker = history.forget(_event(screened))
        if marker is None:  # one that was moved is in the table under its old key only
            return b"", gone or screened.key
        facts = EVENTS.encode(marker.facts)
    return facts, gone


def _store(customer_id: int, history: NativeHistory, unit: UnitOfWork) -> None:
    stored = unit.table(HISTORIES)
    for key, value in history.changes(customer_id):
        if value is None:
            stored.delete_encoded(key)
        else:
            stored.put_encoded(key, value)


def _event(screened: Screened) -> Event:
    """Returns the event that is to be stored."""
    return decode_event(screened.key, EVENTS.decode(screened.facts))[1]
