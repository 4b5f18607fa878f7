"""What a rule says of a transaction: fired, not fired, or too little history to tell; with the numbers that it looked at."""

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
"""An alert names at most so many of the records that it rests on, the newest; its conditions say how many there were."""

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
    """Whether passing it by far makes the rule surer."""

    @property
    def holds(self) -> bool:
        """Whether the value is enough."""
        return self.value >= self.at_least

    def text(self, number: int) -> str:
        """A number as it is written outside."""
        return to_decimal(number) if self.is_amount else str(number)

    def as_feature(self) -> dict[str, Any]:
        """As it stands in an alert's features. `would_not_fire` is the value nearest to it with which it would not hold."""
        return {
            "name": self.name,
            "value": self.text(self.value),
            "comparison": ">=",
            "threshold": self.text(self.at_least),
            "holds": self.holds,
            "would_not_fire": self.text(self.at_least - 1),
        }


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of one rule. `words` fill in its sentence; `evidence` are the events it rests on beside the transaction itself."""

    outcome: Outcome
    conditions: tuple[Condition, ...]
    placeholders: dict[str, str]
    evidence: tuple[Event, ...] = ()

    def as_feature(self) -> dict[str, Any]:
        """As it stands in the features of another rule's alert."""
        return {"outcome": self.outcome, "conditions": [condition.as_feature() for condition in self.conditions]}


INSUFFICIENT_HISTORY: Final = Verdict("insufficient_history", (), {})
"""Of a transaction about whose past nothing is known."""


def score(severity: Severity, conditions: tuple[Condition, ...]) -> str:
    """How sure a rule is, from 0 to 1, four digits: the base of its severity, and from there towards 1 the further a threshold was
    passed. `base + (1 - base) * (1 - 1 / excess)`, where excess is the largest value / threshold of the scored conditions
    that hold, and base is 0.25, 0.50, 0.75 or 0.90. Just at the threshold it is the base; at twice the threshold, half way from there to 1.

    >>> score("high", (Condition("count", 10, 5),)), score("high", (Condition("count", 5, 5),))
    ('0.8750', '0.7500')
    """
    excesses = [Fraction(it.value, it.at_least) for it in conditions if it.holds and it.is_scored and it.at_least > 0]
    base = _BASE[severity]
    value = base + (1 - base) * (1 - 1 / max(excesses, default=Fraction(1)))
    return str((Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.0001"), ROUND_HALF_EVEN))
