"""Evaluates rules on a customer's transactions, with histories in Python or in the native library."""

import random
from collections.abc import Callable
from typing import Any, Final

from app.config.rules_file import load_rules
from app.domain.records import AlertRecord, TransactionRecord
from app.domain.rules.rule import RuleSet
from app.domain.velocity import CustomerHistory
from tests.support.oracle.history import History
from tests.support.oracle.screening import Screening, TransactionChange, screen
from tests.support.streams.velocity import transaction

SPANS: Final = ("1s", "30s", "1m", "2m")
"""Time spans of random rules. They are few, so that most random transactions lie at the limit of some rule."""

new_history: Callable[[RuleSet], CustomerHistory] = lambda rules: History(rules.selections)  # noqa: E731 - tests replace it


def shipped() -> RuleSet:
    """Reads the application's rules."""
    return load_rules(None)


def run(rules: RuleSet, *records: TransactionRecord) -> Screening:
    """Evaluates rules on the last record."""
    history = new_history(rules)
    results = [screen(history, TransactionChange.of(record), rules, now_us=0) for record in records]
    return results[-1]


def outcome(rule: str, *records: TransactionRecord) -> str:
    """The outcome of a shipped rule on the last record."""
    return dict(run(shipped(), *records).outcomes)[rule]


def alert(rule: str, *records: TransactionRecord) -> AlertRecord:
    """The alert of a shipped rule on the last record."""
    (found,) = [alert for alert in run(shipped(), *records).alerts if alert.rule == rule]
    return found


def series(*steps: tuple[int, str], **common: Any) -> list[TransactionRecord]:
    """Transactions at these times, of these amounts."""
    return [transaction(number, at_us, amount, **common) for number, (at_us, amount) in enumerate(steps, 1)]


def random_types(rnd: random.Random) -> list[str]:
    """The transaction types of a random rule."""
    return rnd.choice((["debit"], ["debit"], ["credit"], ["debit", "credit"]))
