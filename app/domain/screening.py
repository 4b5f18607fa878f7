"""Applies one change of a transaction to its customer's history, and computes its windows and alerts. Pure.

A change that is already known has no effect: one that is older than the kept event (by lsn), or one with the same content that is not a
new update. Rules evaluate a transaction when it is created and when its amount, currency, status or time changes, and only while it
counts. Each rule fires on it once: the event lists the rules that fired, and the list stays when the transaction is deleted. If a
transaction is not kept, it is beyond the horizon or was deleted. No rule evaluates an update of it, because the rules that fired on it
are unknown.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from app.domain.events import REMOVED, Event, event_of, instant_us
from app.domain.records import AlertRecord, Evidence, Source, TransactionRecord, VelocityRecord
from app.domain.rules.rule import Rule, RuleSet
from app.domain.rules.verdicts import INSUFFICIENT_HISTORY, Outcome, Verdict, score
from app.domain.times import format_us, normalize
from app.domain.velocity import RETENTION_US, CustomerHistory, History


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
    """A transaction record with its event and its commit time in microseconds since the epoch."""

    record: TransactionRecord
    event: Event
    commit_us: int

    @classmethod
    def of(cls, record: TransactionRecord) -> "TransactionChange":
        """Parse a record. Raises ValueError, naming the field, if a time, amount or number is invalid."""
        return cls(record, event_of(record), instant_us("source.commit_time", record.source.commit_time))


def screen(
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
    _keep(history, record, event, known, horizon_us, result)
    if event.facts.counted and (known is None or _is_news(event, known)):
        evaluate_rules(history, record, result, rules, now_us, is_known=known is not None)
    if result.kept is not None and is_truncated(result.kept, truncated_lsn):
        kept, moved, result.kept = result.kept, result.gone, None
        _forget(history, kept, result)
        if moved is not None:  # the table has the event under its old key only
            result.gone = moved
    return result


def fired_marker(event: Event) -> Event | None:
    """Returns the event to keep for a deleted transaction: it lists the rules that fired. None if no rule fired."""
    if not event.facts.fired:
        return None
    return replace(event, facts=replace(event.facts, status=REMOVED, counterparty=0, country=None))


def is_truncated(event: Event, truncated_lsn: int | None) -> bool:
    """Returns whether a TRUNCATE at this log position deleted the event. An event without a position counts as older."""
    return truncated_lsn is not None and (event.facts.lsn is None or event.facts.lsn < truncated_lsn)


def _is_stale(event: Event, known: Event) -> bool:
    """Returns whether the change is older than the kept event: PostgreSQL's positions rise with every change of one row."""
    return event.facts.lsn is not None and known.facts.lsn is not None and event.facts.lsn < known.facts.lsn


def _is_repeated(record: TransactionRecord, event: Event, known: Event) -> bool:
    old, new = known.facts, event.facts
    if known.time_us != event.time_us or old.status != new.status or old.window_values != new.window_values:
        return False
    if record.op == "created":
        return True
    if new.lsn is not None:
        return new.lsn == old.lsn
    return (new.partition, new.offset) == (old.partition, old.offset)


def _forget(history: CustomerHistory, known: Event, result: Screening) -> None:
    marker = fired_marker(known)
    if marker is None:
        history.remove(known)
        result.gone = known
    else:
        history.put(marker)
        result.kept = marker


def _keep(
    history: CustomerHistory,
    record: TransactionRecord,
    event: Event,
    known: Event | None,
    horizon_us: int,
    result: Screening,
) -> None:
    """Put the event into the history, and compute its windows."""
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
        normalize(record.booked_at),
        record.currency,
        windows,
        None if previous is None else (event.time_us - previous.time_us) / 1_000_000,
        record.source,
    )


def evaluate_rules(
    history: CustomerHistory,
    record: TransactionRecord,
    result: Screening,
    rules: RuleSet,
    now_us: int,
    *,
    is_known: bool,
) -> None:
    """Evaluate the rules on a counted transaction that is new or has changed. Adds outcomes and alerts to the result."""
    kept = result.kept
    if kept is None or (not is_known and record.op == "updated"):
        result.outcomes = [(rule.id, INSUFFICIENT_HISTORY.outcome) for rule in rules.rules]
        return
    assert result.velocity is not None
    windows, before = result.velocity.windows, kept.facts.fired
    candidates = rules.candidates(kept, windows, history)
    if not candidates and not before:
        result.outcomes = rules.none_fired
        return
    asked = [rule for rule in rules.rules if rule.id not in before]
    verdicts = {rule.id: rule.judge(kept, windows, history) for rule in candidates if rule.id not in before}
    result.outcomes = [(rule.id, verdicts[rule.id].outcome if rule.id in verdicts else "not_fired") for rule in asked]
    fired = [rule for rule in asked if rule.id in verdicts and verdicts[rule.id].outcome == "fired"]
    if fired:
        verdicts = {  # in the order of the rules; the candidates are already evaluated
            rule.id: verdicts[rule.id] if rule.id in verdicts else rule.judge(kept, windows, history) for rule in asked
        }
        result.alerts = [_alert(rule, record, kept, verdicts, before, now_us) for rule in fired]
        result.kept = replace(kept, facts=replace(kept.facts, fired=(*before, *(rule.id for rule in fired))))
        history.put(result.kept)


def _is_news(event: Event, known: Event) -> bool:
    """Returns whether a change requires the rules to evaluate the transaction again."""
    old, new = known.facts, event.facts
    return (known.time_us, old.amount_minor, old.currency, old.status) != (
        event.time_us,
        new.amount_minor,
        new.currency,
        new.status,
    )


def alert_id(rule_id: str, customer_id: int, account_id: int, transaction_id: int) -> str:
    """Returns the id of an alert: a rule gives at most one alert for a transaction.

    >>> alert_id("threshold", 7, 31, 1001)
    'threshold:7-31-1001'
    """
    return f"{rule_id}:{customer_id}-{account_id}-{transaction_id}"


def _alert(
    rule: Rule,
    record: TransactionRecord,
    event: Event,
    verdicts: dict[str, Verdict],
    before: Iterable[str],
    now_us: int,
) -> AlertRecord:
    verdict = verdicts[rule.id]
    features: dict[str, Any] = {
        "amount": verdict.placeholders["amount"],
        "currency": record.currency,
        "type": record.type,
        "status": record.status,
        "conditions": [condition.as_feature() for condition in verdict.conditions],
        "other_rules": {name: other.as_feature() for name, other in verdicts.items() if name != rule.id},
        "fired_before": list(before),
    }
    return AlertRecord(
        alert_id=alert_id(rule.id, record.customer_id, record.account_id, record.transaction_id),
        rule=rule.id,
        severity=rule.severity,
        score=score(rule.severity, verdict.conditions),
        customer_id=record.customer_id,
        account_id=record.account_id,
        transaction_id=record.transaction_id,
        event_time=format_us(event.time_us),
        detected_at=format_us(now_us),
        features=features,
        explanation=rule.explanation.format(**verdict.placeholders),
        evidence=_evidence(event, verdict.evidence, record.source),
        source=record.source,
    )


def _evidence(event: Event, others: Iterable[Event], source: Source) -> list[Evidence]:
    """Returns the positions of the raw changes, the transaction's own first. All transactions of a customer come from one topic."""
    found = [event, *(other for other in others if other.key != event.key)]
    return [Evidence(source.topic, it.facts.partition, it.facts.offset) for it in found]
