"""Detects an amount at or above a limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from app.domain.events import AmountFilter, Event
from app.domain.records import Window
from app.domain.rules.fields import Fields, common_fields
from app.domain.rules.rule import (
    AMOUNT_PLACEHOLDERS,
    Prefilter,
    Rule,
    amount_placeholders,
    has_type,
    outcome_of,
)
from app.domain.rules.verdicts import Condition, Severity, Verdict
from app.domain.velocity import CustomerHistory


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fires on an amount of at least `amounts.at_least_minor`."""

    id: str
    severity: Severity
    explanation: str
    amounts: AmountFilter

    placeholders: ClassVar = AMOUNT_PLACEHOLDERS

    selections: ClassVar[tuple[AmountFilter, ...]] = ()

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """An amount of at least the limit."""
        return (Prefilter(self.amounts.at_least_minor),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Returns the verdict. It needs no history."""
        del windows, history
        amount = Condition("amount", event.facts.amount_minor, self.amounts.at_least_minor, is_amount=True)
        fired = amount.holds and has_type(self.amounts, event)
        return Verdict(outcome_of(fired), (amount,), amount_placeholders(event) if fired else {})


def read(fields: Fields) -> Rule:
    """Creates a rule of this kind from its fields in rules.toml."""
    amounts = AmountFilter(fields.types(), at_least_minor=fields.amount("at_least"))
    return Threshold(**common_fields(fields, Threshold.placeholders), amounts=amounts)
