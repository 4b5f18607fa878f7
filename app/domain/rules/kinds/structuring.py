"""Detects structuring: several amounts just below a reporting threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from app.domain.events import AmountFilter, Event
from app.domain.money import to_decimal
from app.domain.records import Window
from app.domain.rules.fields import Fields, common_fields
from app.domain.rules.rule import (
    AMOUNT_PLACEHOLDERS,
    Prefilter,
    Rule,
    amount_placeholders,
)
from app.domain.rules.verdicts import EVIDENCE_MAX, Condition, Severity, Verdict
from app.domain.velocity import CustomerHistory


@dataclass(frozen=True, slots=True)
class Structuring:
    """Fires on an amount in a band just below a reporting threshold, if the window has at least `minimum_count` of them including it."""

    id: str
    severity: Severity
    explanation: str
    band: AmountFilter
    minimum_count: int
    window_us: int

    placeholders: ClassVar = AMOUNT_PLACEHOLDERS | {"count", "total"}

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts in the band."""
        return (self.band,)

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """An amount that is not below the band."""
        return (Prefilter(self.band.at_least_minor),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Fires on every transaction in the band once the count reaches the minimum."""
        del windows
        if not self.band.matches(event.facts):
            return Verdict("not_fired", (), {})
        amounts = self.band, event.facts.currency, history.window_start_us(self.window_us)
        count, total = history.amounts(*amounts)
        enough = Condition("count in band", count, self.minimum_count)
        if not enough.holds:
            return Verdict("not_fired", (enough,), {})
        words = {**amount_placeholders(event), "count": str(count), "total": to_decimal(total)}
        return Verdict("fired", (enough,), words, tuple(history.latest_amounts(*amounts, EVIDENCE_MAX)))


def read(fields: Fields) -> Rule:
    """Creates a rule of this kind from its fields in rules.toml."""
    band = AmountFilter(fields.types(), fields.amount("at_least"), fields.amount("below") - 1)
    if band.at_most_minor < band.at_least_minor:
        fields.refuse("below", "an amount not above at_least", "an amount above at_least")
    return Structuring(
        **common_fields(fields, Structuring.placeholders),
        band=band,
        minimum_count=fields.count("minimum_count"),
        window_us=fields.span("window"),
    )
