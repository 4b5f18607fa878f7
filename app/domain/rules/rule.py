"""Defines the interface of a rule, its prefilters, and the set of active rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Protocol

from app.domain.events import AmountFilter, Event
from app.domain.money import to_decimal
from app.domain.records import Window
from app.domain.rules.verdicts import INSUFFICIENT_HISTORY, Outcome, Severity, Verdict
from app.domain.velocity import CustomerHistory

AMOUNT_PLACEHOLDERS: Final = frozenset({"amount", "currency"})
"""The placeholders that every kind of rule has."""


@dataclass(frozen=True, slots=True)
class Prefilter:
    """A cheap test that rules out most transactions before a rule is evaluated. All its conditions must hold."""

    at_least_minor: int = 0
    """The minimum amount of the transaction."""
    window: str = ""
    """The window that must have at least `count` transactions; "" for no such condition."""
    count: int = 0
    after: AmountFilter | None = None
    """An amount of these must be in the `after_us` microseconds up to the transaction; None for no such condition."""
    after_us: int = 0

    def matches(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> bool:
        """Returns whether a transaction passes the test. The history's cursor must be at the transaction."""
        if event.facts.amount_minor < self.at_least_minor or (self.window and windows[self.window].count < self.count):
            return False
        if self.after is None:
            return True
        return history.amounts(self.after, event.facts.currency, history.window_start_us(self.after_us))[0] > 0


class Rule(Protocol):
    """The interface of a rule. `placeholders` are the names that its explanation may use in braces."""

    placeholders: ClassVar[frozenset[str]]

    @property
    def id(self) -> str:
        """The name of the rule in alerts and metrics. A rule with a changed id is a new rule."""
        ...

    @property
    def severity(self) -> Severity:
        """The severity of the rule's alerts."""
        ...

    @property
    def explanation(self) -> str:
        """The text of the rule's alerts, with placeholders in braces."""
        ...

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts that histories must index for the rule."""
        ...

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """If none of them matches a transaction, `judge` would return `not_fired`."""
        ...

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Returns the verdict on a counted event. The history must have the event, and its cursor must be at it."""
        ...


@dataclass(frozen=True)
class RuleSet:
    """The active rules, in the order of their file."""

    rules: tuple[Rule, ...]

    @cached_property
    def none_fired(self) -> tuple[tuple[str, Outcome], ...]:
        """The outcomes, by rule, if no rule fires."""
        return tuple((rule.id, "not_fired") for rule in self.rules)

    @cached_property
    def none_evaluated(self) -> tuple[tuple[str, Outcome], ...]:
        """The outcomes, by rule, if it is not known which of them have fired on the transaction before."""
        return tuple((rule.id, INSUFFICIENT_HISTORY.outcome) for rule in self.rules)

    def candidates(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> list[Rule]:
        """Returns the rules that a prefilter does not rule out. Most amounts are below the minimum of every rule that has one."""
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
        """The amounts that histories must index for all rules."""
        return tuple(selection for rule in self.rules for selection in rule.selections)


def _least_minor(rule: Rule) -> int:
    """Returns the least amount that the rule's prefilters can match."""
    return min((prefilter.at_least_minor for prefilter in rule.prefilters), default=0)


def has_type(selection: AmountFilter, event: Event) -> bool:
    """Returns whether the filter selects the transaction's type, credit or debit."""
    return ("credit" if event.facts.credit else "debit") in selection.types


def amount_placeholders(event: Event) -> dict[str, str]:
    """Returns the values of AMOUNT_PLACEHOLDERS."""
    return {"amount": to_decimal(event.facts.amount_minor), "currency": event.facts.currency}


def outcome_of(fired: bool) -> Outcome:
    """Returns the outcome of a rule that needs no minimum history."""
    return "fired" if fired else "not_fired"
