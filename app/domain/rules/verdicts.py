"""Defines the verdict of a rule on a transaction (fired, not fired or insufficient history), its conditions and its score."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any, Final, Literal

import msgspec

from app.domain.events import Event
from app.domain.money import to_decimal

Outcome = Literal["fired", "not_fired", "insufficient_history"]
Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("low", "medium", "high", "critical")

EVIDENCE_MAX: Final = 20
"""The maximum number of events in the evidence of a verdict, the newest. The conditions of the alert give their full number."""

_BASE: Final[dict[Severity, Fraction]] = {
    "low": Fraction(1, 4), "medium": Fraction(1, 2), "high": Fraction(3, 4), "critical": Fraction(9, 10),
}  # fmt: skip


class Condition(msgspec.Struct, frozen=True, gc=False):
    """One comparison `value >= at_least` that a rule made, of amounts (in minor units) or of counts."""

    name: str
    value: int
    at_least: int
    is_amount: bool = False
    is_scored: bool = True
    """Whether a larger excess over the threshold raises the score."""

    @property
    def holds(self) -> bool:
        """Whether the value reaches the threshold."""
        return self.value >= self.at_least

    def text(self, number: int) -> str:
        """Returns a number as text: a decimal string for an amount."""
        return to_decimal(number) if self.is_amount else str(number)

    def as_feature(self) -> dict[str, Any]:
        """Returns the condition for an alert's features. `would_not_fire` is the largest value for which the condition does not hold."""
        return {
            "name": self.name,
            "value": self.text(self.value),
            "comparison": ">=",
            "threshold": self.text(self.at_least),
            "holds": self.holds,
            "would_not_fire": self.text(self.at_least - 1),
        }


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of one rule. `placeholders` has the values for its explanation; `evidence` has the events that it is based on."""

    outcome: Outcome
    conditions: tuple[Condition, ...]
    placeholders: dict[str, str]
    evidence: tuple[Event, ...] = ()

    def as_feature(self) -> dict[str, Any]:
        """Returns the verdict for the features of another rule's alert."""
        return {"outcome": self.outcome, "conditions": [condition.as_feature() for condition in self.conditions]}


INSUFFICIENT_HISTORY: Final = Verdict("insufficient_history", (), {})
"""The verdict on a transaction without a known history."""


def score(severity: Severity, conditions: tuple[Condition, ...]) -> str:
    """Returns the score of an alert, from 0 to 1 with four digits. It starts at the base of the severity and approaches 1 as the excess
    over a threshold grows: `base + (1 - base) * (1 - 1 / excess)`. Here excess is the largest value / threshold of the scored conditions
    that hold, and base is 0.25, 0.50, 0.75 or 0.90. At the threshold the score is the base; at twice the threshold it is half way
    between the base and 1.

    >>> score("high", (Condition("count", 10, 5),)), score("high", (Condition("count", 5, 5),))
    ('0.8750', '0.7500')
    """
    excesses = [Fraction(it.value, it.at_least) for it in conditions if it.holds and it.is_scored and it.at_least > 0]
    base = _BASE[severity]
    value = base + (1 - base) * (1 - 1 / max(excesses, default=Fraction(1)))
    return str((Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.0001"), ROUND_HALF_EVEN))
