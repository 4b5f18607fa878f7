"""Applies one change of a transaction to its customer's history in Python: the oracle of app/native/velocity.c.

A change that is already known has no effect: one that is older than the kept event (by lsn), or one with the same content that is not a
new update. Rules evaluate a transaction when it is created and when its amount, currency, status or time changes, and only while it
counts.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec.structs import replace

from app.domain.common_form import common_form
from app.domain.events import DECLINED, OTHER, PENDING, POSTED, REVERSED, Event, Facts
from app.domain.money import to_minor
from app.domain.records import AlertRecord, Source, TransactionRecord, VelocityRecord
from app.domain.rules.rule import RuleSet
from app.domain.rules.verdicts import Outcome
from app.domain.screening import evaluate_rules, is_truncated
from app.domain.times import format_us, instant_us, parse_us
from app.domain.velocity import RETENTION_US, CustomerHistory
from tests.support.oracle.history import History, window_values

STATUSES: Final = {"pending": PENDING, "posted": POSTED, "reversed": REVERSED, "declined": DECLINED}
_records: Final = msgspec.json.Decoder(TransactionRecord)


class Screening(msgspec.Struct):
    """The result of a change. The history is already updated; the caller deletes `gone` and `expired` from the table, then puts `kept`."""

    kept: Event | None = None
    gone: Event | None = None
    expired: list[Event] = []
    velocity: VelocityRecord | None = None
    alerts: list[AlertRecord] = []
    outcomes: Sequence[tuple[str, Outcome]] = []
    """(rule, outcome) of every rule that was evaluated."""


class TransactionChange(msgspec.Struct, frozen=True, gc=False):
    """A transaction record with its event, its commit time in microseconds since the epoch, and its source in the common form."""

    record: TransactionRecord
    event: Event
    commit_us: int
    source: Source

    @classmethod
    def of(cls, record: TransactionRecord) -> "TransactionChange":
        """Parse a record. Raises ValueError, naming the field, if a time, amount or number is invalid."""
        source = _records.decode(common_form(record)).source
        return cls(record, event_of(record), parse_us(source.commit_time), source)


def screen(  # noqa: C901 - the rules of app/domain/velocity.py, in their order
    history: CustomerHistory,
    change: TransactionChange,
    rules: RuleSet,
    *,
    now_us: int,
    truncated_lsn: int | None = None,
) -> Screening:
    """Apply a change to its customer's history. An event older than `truncated_lsn` is not kept: a TRUNCATE deleted it."""
    record, event, result = change.record, change.event, Screening()
    known = history.find(event.account_id, event.transaction_id)
    newest_us = history.newest_us
    if newest_us is None or newest_us < event.time_us:
        newest_us = event.time_us
    horizon_us = min(newest_us, change.commit_us) - RETENTION_US
    result.expired = history.expire(horizon_us)
    if known is not None and known.time_us < horizon_us:
        known = None
    if known is not None and _is_stale(event, known):
        return result
    if record.op == "deleted":
        if known is not None:
            _forget(history, known, result)
        return result
    if known is not None and _is_repeated(record, event, known):
        return result
    _keep(history, change, known, horizon_us, result)
    if event.facts.counted and (known is None or _is_news(event, known)):
        if result.kept is None or (known is None and record.op == "updated"):
            result.outcomes = rules.none_evaluated
        else:
            _evaluate(history, record, result, rules, now_us)
    if result.kept is not None and is_truncated(result.kept.facts.lsn, truncated_lsn):
        kept, moved, result.kept = result.kept, result.gone, None
        _forget(history, kept, result)
        if moved is not None:  # the table has the event under its old key only
            result.gone = moved
    return result


def _is_stale(event: Event, known: Event) -> bool:
    """Returns whether the change is older than the kept event: PostgreSQL's positions rise with every change of one row."""
    return event.facts.lsn is not None and known.facts.lsn is not None and event.facts.lsn < known.facts.lsn


def _is_repeated(record: TransactionRecord, event: Event, known: Event) -> bool:
    old, new = known.facts, event.facts
    if known.time_us != event.time_us or old.status != new.status or window_values(old) != window_values(new):
        return False
    if record.op == "created":
        return True
    if new.lsn is not None:
        return new.lsn == old.lsn
    return (new.partition, new.offset) == (old.partition, old.offset)


def _forget(history: CustomerHistory, known: Event, result: Screening) -> None:
    result.kept = history.forget(known)
    if result.kept is None:
        result.gone = known


def _evaluate(
    history: CustomerHistory, record: TransactionRecord, result: Screening, rules: RuleSet, now_us: int
) -> None:
    assert result.kept is not None
    assert result.velocity is not None
    evaluation = evaluate_rules(history, record, result.kept, result.velocity.windows, rules, now_us)
    result.outcomes, result.alerts = evaluation.outcomes, list(evaluation.alerts)
    if evaluation.alerts:
        result.kept = replace(result.kept, facts=replace(result.kept.facts, fired=evaluation.fired))
        history.put(result.kept)


def _keep(
    history: CustomerHistory, change: TransactionChange, known: Event | None, horizon_us: int, result: Screening
) -> None:
    """Put the event into the history, and compute its windows."""
    record, event = change.record, change.event
    if event.time_us >= horizon_us:
        if known is not None and known.facts.fired:
            event = replace(event, facts=replace(event.facts, fired=known.facts.fired))
        if known is not None and known.time_us != event.time_us:
            result.gone = known
        history.put(event)
        result.kept = event
        windows, previous = history.windows(event), history.previous(event)
    else:
        if known is not None:
            history.remove(known)
            result.gone = known
        windows, previous = History(events=[event]).windows(event), None
    result.velocity = VelocityRecord(
        record.customer_id,
        record.account_id,
        record.transaction_id,
        format_us(event.time_us),
        record.currency,
        windows,
        None if previous is None else (event.time_us - previous.time_us) / 1_000_000,
        change.source,
    )


def _is_news(event: Event, known: Event) -> bool:
    """Returns whether a change requires the rules to evaluate the transaction again."""
    old, new = known.facts, event.facts
    return (known.time_us, old.amount_minor, old.currency, old.status) != (
        event.time_us,
        new.amount_minor,
        new.currency,
        new.status,
    )


def event_of(record: TransactionRecord) -> Event:
    """The compact event of a transaction."""
    source = record.source
    counterparty = record.counterparty_account
    return Event(  # positional arguments: keyword arguments take twice the time
        instant_us("booked_at", record.booked_at),
        record.account_id,
        record.transaction_id,
        Facts(
            to_minor(record.amount),
            record.currency,
            record.type == "credit",
            STATUSES.get(record.status, OTHER),
            _hash(counterparty) if counterparty else 0,
            record.country_code or None,
            source.lsn,
            source.partition,
            source.offset,
        ),
    )


@lru_cache(maxsize=65_536)
def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1
