"""What a rule is: its prefilters, its verdict on a transaction, and the set of rules in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Protocol

from app.domain.events import AmountFilter, Event
from app.domain.money import to_decimal
from app.domain.records import Window
from app.domain.rules.verdicts import EVIDENCE_MAX, Outcome, Severity, Verdict
from app.domain.velocity import CustomerHistory
from app.domain.window_aggregates import AmountLookup

AMOUNT_PLACEHOLDERS: Final = frozenset({"amount", "currency"})
"""Placeholders of every kind of rule."""


@dataclass(frozen=True, slots=True)
class Prefilter:
    """What is quick to see of a transaction, and which most have not."""

    at_least_minor: int = 0
    """Its amount."""
    window: str = ""
    """A window that has at least `count` transactions; "" for any transaction."""
    count: int = 0
    after: AmountFilter | None = None
    """There is an amount of these in the time of `after_us` up to it; None for any transaction."""
    after_us: int = 0

    def matches(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> bool:
        """Whether a transaction, at which the history's cursor is, has it."""
        if event.facts.amount_minor < self.at_least_minor or (self.window and windows[self.window].count < self.count):
            return False
        if self.after is None:
            return True
        track = history.amounts(self.after, event.facts.currency)
        return track is not None and track.key(len(track) - 1)[0] > history.window_start_us(self.after_us)


class Rule(Protocol):
    """What every rule is. `placeholders` are the names that its explanation may use in braces."""

    placeholders: ClassVar[frozenset[str]]

    @property
    def id(self) -> str:
        """Names the rule in alerts and metrics; changing it makes it another rule."""
        ...

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        ...

    @property
    def explanation(self) -> str:
        """The sentence, with placeholders in braces."""
        ...

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts that histories must be able to look up for it."""
        ...

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """Of a transaction for which none of them matches, `judge` would say `not_fired`."""
        ...

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """The verdict on a counted event that is in the history, with the history's cursor at it."""
        ...


@dataclass(frozen=True)
class RuleSet:
    """The rules in force, in the order of their file."""

    rules: tuple[Rule, ...]

    @cached_property
    def none_fired(self) -> tuple[tuple[str, Outcome], ...]:
        """The outcomes, by rule, when nobody has anything to say."""
        return tuple((rule.id, "not_fired") for rule in self.rules)

    def candidates(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> list[Rule]:
        """Those that have to be asked. Most amounts are too small for all that are about amounts."""
        rules = self.rules if event.facts.amount_minor >= self._least_minor else self._for_any_amount
        return [
            rule for rule in rules if any(prefilter.matches(event, windows, history) for prefilter in rule.prefilters)
        ]

    @cached_property
    def _for_any_amount(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if _least_minor(rule) <= 0)

    @cached_property
    def _least_minor(self) -> int:
        return min((least for rule in self.rules if (least := _least_minor(rule)) > 0), default=0)

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """What histories must be able to look up."""
        return tuple(selection for rule in self.rules for selection in rule.selections)


def _least_minor(rule: Rule) -> int:
    """It is not about smaller amounts."""
    return min((prefilter.at_least_minor for prefilter in rule.prefilters), default=0)


def latest_evidence(track: AmountLookup, first: int, history: CustomerHistory) -> tuple[Event, ...]:
    """The evidence: from a position on, the newest first."""
    positions = range(max(first, len(track) - EVIDENCE_MAX), len(track))
    return tuple(history.of_key(track.key(position)) for position in reversed(positions))


def has_type(selection: AmountFilter, event: Event) -> bool:
    """Whether a transaction's type, credit or debit, is one that the filter takes."""
    return ("credit" if event.facts.credit else "debit") in selection.types


def amount_placeholders(event: Event) -> dict[str, str]:
    """The values of AMOUNT_PLACEHOLDERS."""
    return {"amount": to_decimal(event.facts.amount_minor), "currency": event.facts.currency}


def outcome_of(fired: bool) -> Outcome:
    """The outcome of a rule that can always tell."""
    return "fired" if fired else "not_fired"
