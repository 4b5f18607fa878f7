"""Tests that a prefilter never suppresses a rule: for any thresholds and history, each rule is evaluated unless it gives `not_fired`.

Amounts, times and thresholds are drawn from few values, so that most examples lie at the limit of some rule.
"""

import importlib
import random
from collections import Counter
from typing import Final

import msgspec

from app.domain.money import to_decimal
from app.domain.records import TransactionRecord
from app.domain.rules.kinds import KINDS
from app.domain.rules.rule import RuleSet
from app.domain.rules.rule_file import read_rules
from app.native.history import NativeHistory, Rules
from app.native.velocity import CONCERNED, Screener
from tests.support.oracle.history import History
from tests.support.oracle.screening import event_of
from tests.support.streams.native import EXAMPLES, FIRST_SEED, library
from tests.support.streams.velocity import MINUTE_US, SECOND_US, transaction

SEEDS: Final = range(FIRST_SEED, FIRST_SEED + 1_000 * EXAMPLES)
CUSTOMER: Final = 7
STEPS_US: Final = (0, 1, SECOND_US - 1, SECOND_US, 2 * SECOND_US, 30 * SECOND_US - 1, 30 * SECOND_US, MINUTE_US)
FIRES: Final = 50
"""How often each kind of rule must fire, and lack history where that is possible. Fewer cases would prove little."""


def random_rules(rnd: random.Random) -> RuleSet:
    """Some rules of different kinds, with thresholds that the transactions exceed, miss and meet exactly.

    The tests of a kind, tests/unit/domain/rules/test_<kind>.py, have its `random_fields`.
    """
    fields = {
        kind: importlib.import_module(f"tests.unit.domain.rules.test_{kind}").random_fields(rnd) for kind in KINDS
    }
    common = {"severity": "low", "explanation": "It fired."}
    rows = [{"id": kind, "kind": kind, **common, **found} for kind, found in fields.items()]
    return read_rules({"rule": rnd.sample(rows, rnd.randrange(1, len(rows) + 1))}, "random.toml")


def random_transactions(rnd: random.Random) -> list[TransactionRecord]:
    """A customer's transactions in the order of arrival: some late, some at the same time."""
    at_us, records = 0, []
    for number in range(1, rnd.randrange(2, 20)):
        at_us += rnd.choice(STEPS_US) * rnd.choice((1, 1, 1, -1))
        records.append(
            transaction(
                number,
                at_us,
                to_decimal(rnd.randrange(9)),
                kind=rnd.choice(("debit", "debit", "debit", "credit")),
                currency=rnd.choice(("EUR", "EUR", "EUR", "USD")),
                status=rnd.choice(("posted", "posted", "posted", "pending", "pending", "declined", "reversed")),
                customer_id=CUSTOMER,
            )
        )
    return records


class Library:
    """The library's prefilters, with one history for each rule, because a history says only whether any rule must be evaluated."""

    def __init__(self, rules: RuleSet) -> None:
        self._by_rule: dict[str, tuple[NativeHistory, Screener]] = {}
        for rule in rules.rules:
            alone = Rules(library(), RuleSet((rule,)))
            self._by_rule[rule.id] = NativeHistory(alone), Screener(alone)

    def asked(self, record: TransactionRecord) -> set[str]:
        """Which rules would be asked about a transaction."""
        value, asked = msgspec.json.encode(record), set()
        for rule, (history, screener) in self._by_rule.items():
            screened = screener.screen(history, value, CUSTOMER)
            assert screened is not None
            if screened.look == CONCERNED:
                asked.add(rule)
        return asked


def test_no_prefilter_suppresses_a_rule_that_would_not_give_not_fired() -> None:
    said: Counter[tuple[str, str]] = Counter()
    asked_in_vain = 0
    for seed in SEEDS:
        rnd = random.Random(seed)
        rules = random_rules(rnd)
        history, native = History(rules.selections), Library(rules)
        for record in random_transactions(rnd):
            event, where = event_of(record), f"seed {seed}, transaction {record.transaction_id}"
            history.put(event)
            windows, asked_natively = history.windows(event), native.asked(record)
            if not event.facts.counted:
                continue
            outcomes = {rule.id: rule.judge(event, windows, history).outcome for rule in rules.rules}
            speaking = {rule for rule, outcome in outcomes.items() if outcome != "not_fired"}
            asked = {rule.id for rule in rules.candidates(event, windows, history)}
            assert speaking <= asked, f"{where}: Python's prefilter silences {speaking - asked}"
            said.update((rule, outcomes[rule]) for rule in speaking)
            asked_in_vain += len(asked - speaking)
            assert speaking <= asked_natively, f"{where}: the library's prefilter silences {speaking - asked_natively}"
    expected = {*((kind, "fired") for kind in KINDS), ("large_amount", "insufficient_history")}
    assert {what for what, count in said.items() if count >= FIRES} == expected, said
    assert asked_in_vain > FIRES, "a prefilter may let through what does not fire"
