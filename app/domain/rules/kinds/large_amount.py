"""Detects an amount far above the customer's own mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from app.domain.events import AmountFilter, Event
from app.domain.money import half_even, to_decimal
from app.domain.records import Window
from app.domain.rules.fields import Fields, common_fields
from app.domain.rules.rule import (
    AMOUNT_PLACEHOLDERS,
    Prefilter,
    Rule,
    amount_placeholders,
    has_type,
)
from app.domain.rules.verdicts import EVIDENCE_MAX, Condition, Severity, Verdict
from app.domain.velocity import CustomerHistory


@dataclass(frozen=True, slots=True)
class LargeAmount:
    """Fires on an amount of at least `at_least_minor` and at least `factor` times the mean of the other amounts of these types and this
    currency in the window. With fewer than `minimum_history` other amounts the outcome is insufficient_history.
    """

    id: str
    severity: Severity
    explanation: str
    baseline: AmountFilter
    factor: Fraction
    at_least_minor: int
    window_us: int
    minimum_history: int

    placeholders: ClassVar = AMOUNT_PLACEHOLDERS | {"mean", "history"}

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts of the mean."""
        return (self.baseline,)

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """An amount of at least `at_least_minor`."""
        return (Prefilter(self.at_least_minor),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Does not fire on an amount below the minimum, whatever the history."""
        del windows
        facts = event.facts
        amount = Condition("amount", facts.amount_minor, self.at_least_minor, is_amount=True)
        if not amount.holds or not has_type(self.baseline, event):
            return Verdict("not_fired", (amount,), {})
        amounts = self.baseline, facts.currency, history.window_start_us(self.window_us)
        count, total = history.amounts(*amounts)
        count, total = count - 1, total - facts.amount_minor
        enough = Condition("history", count, self.minimum_history, is_scored=False)
        if not enough.holds:
            return Verdict("insufficient_history", (amount, enough), {})
        threshold = -(-(total * self.factor.numerator) // (count * self.factor.denominator))
        against_own = Condition("amount against own mean", facts.amount_minor, threshold, is_amount=True)
        conditions = (amount, against_own, enough)
        if not against_own.holds:
            return Verdict("not_fired", conditions, {})
        words = {**amount_placeholders(event), "mean": to_decimal(half_even(total, count)), "history": str(count)}
        return Verdict("fired", conditions, words, tuple(history.latest_amounts(*amounts, EVIDENCE_MAX)))


def read(fields: Fields) -> Rule:
    """Creates a rule of this kind from its fields in rules.toml."""
    return LargeAmount(
        **common_fields(fields, LargeAmount.placeholders),
        baseline=AmountFilter(fields.types()),
        factor=fields.factor("factor"),
        at_least_minor=fields.amount("at_least"),
        window_us=fields.span("window"),
        minimum_history=fields.count("minimum_history"),
    )
