"""Detects too many transactions in a window."""

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
)
from app.domain.rules.verdicts import EVIDENCE_MAX, Condition, Severity, Verdict
from app.domain.velocity import CustomerHistory


@dataclass(frozen=True)
class VelocityCount:
    """Fires if any of the windows has at least as many transactions as its limit."""

    id: str
    severity: Severity
    explanation: str
    limits: tuple[tuple[str, int, int], ...]
    """(window, its length in microseconds, limit), the shortest first."""

    placeholders: ClassVar = AMOUNT_PLACEHOLDERS | {"count", "window", "limit"}
    selections: ClassVar[tuple[AmountFilter, ...]] = ()

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """One for each limit: the window's count reaches it."""
        return tuple(Prefilter(window=name, count=limit) for name, _, limit in self.limits)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Fires while a limit is reached; the explanation names the shortest such window."""
        conditions = tuple(Condition(f"count {name}", windows[name].count, limit) for name, _, limit in self.limits)
        for (name, length_us, limit), condition in zip(self.limits, conditions, strict=True):
            if condition.holds:
                words = {
                    **amount_placeholders(event),
                    "count": str(condition.value),
                    "window": name,
                    "limit": str(limit),
                }
                evidence = history.latest_counted(event, history.window_start_us(length_us), EVIDENCE_MAX)
                return Verdict("fired", conditions, words, tuple(evidence))
        return Verdict("not_fired", conditions, {})


def read(fields: Fields) -> Rule:
    """Creates a rule of this kind from its fields in rules.toml."""
    return VelocityCount(**common_fields(fields, VelocityCount.placeholders), limits=fields.limits("limits"))
