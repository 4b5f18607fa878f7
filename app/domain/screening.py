"""Evaluates the rules on a transaction of a customer's history, and writes their alerts. Pure.

The native library (app/native/velocity.c) says which transactions: those that are created, and those whose amount, currency, status or
time changes, while they count and if a prefilter matches. Each rule fires on a transaction once: its event lists the rules that fired,
and the list stays when the transaction is deleted. If a transaction is not kept, it is beyond the horizon or was deleted. No rule
evaluates an update of it, because the rules that fired on it are unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from app.domain.events import Event
from app.domain.records import AlertRecord, Evidence, Source, TransactionRecord, Window
from app.domain.rules.rule import Rule, RuleSet
from app.domain.rules.verdicts import Outcome, Verdict, score
from app.domain.times import format_us
from app.domain.velocity import CustomerHistory


class Evaluation(msgspec.Struct, frozen=True):
    """What the rules say on a transaction."""

    outcomes: Sequence[tuple[str, Outcome]]
    """(rule, outcome) of every rule that was evaluated."""
    alerts: Sequence[AlertRecord] = ()
    fired: tuple[str, ...] = ()
    """The rules that have fired on the transaction, now and before."""


def is_truncated(lsn: int | None, truncated_lsn: int | None) -> bool:
    """Returns whether a TRUNCATE at a log position deleted the event with this one. An event without a position counts as older."""
    return truncated_lsn is not None and (lsn is None or lsn < truncated_lsn)


def evaluate_rules(
    history: CustomerHistory,
    record: TransactionRecord,
    event: Event,
    windows: Mapping[str, Window],
    rules: RuleSet,
    now_us: int,
) -> Evaluation:
    """Evaluate the rules on a counted transaction that is new or has changed. The history has its event, and its cursor is there."""
    before = event.facts.fired
    candidates = rules.candidates(event, windows, history)
    if not candidates and not before:
        return Evaluation(rules.none_fired)
    asked = [rule for rule in rules.rules if rule.id not in before]
    verdicts = {rule.id: rule.judge(event, windows, history) for rule in candidates if rule.id not in before}
    outcomes = [(rule.id, verdicts[rule.id].outcome if rule.id in verdicts else "not_fired") for rule in asked]
    fired = [rule for rule in asked if rule.id in verdicts and verdicts[rule.id].outcome == "fired"]
    if not fired:
        return Evaluation(outcomes, fired=before)
    verdicts = {  # in the order of the rules; the candidates are already evaluated
        rule.id: verdicts[rule.id] if rule.id in verdicts else rule.judge(event, windows, history) for rule in asked
    }
    alerts = [_alert(rule, record, event, verdicts, before, now_us) for rule in fired]
    return Evaluation(outcomes, alerts, (*before, *(rule.id for rule in fired)))


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
