"""From a rules document (parsed TOML) to rules. Everything that is wrong with it is said at once: file, rule, field, what is allowed."""

import re
import string
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from app.domain.events import AmountFilter
from app.domain.money import to_minor
from app.domain.records import WINDOWS_US
from app.domain.rules import CardTesting, LargeAmount, Rule, RuleSet, Structuring, Threshold, VelocityCount
from app.domain.verdicts import SEVERITIES
from app.errors import SettingsError

MAX_SPAN_US: Final = WINDOWS_US["30d"]
TYPES: Final = frozenset({"debit", "credit"})

_UNITS_US: Final = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_SPAN: Final = re.compile(r"([1-9]\d{0,6})([smhd])", re.ASCII)
_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_FACTOR: Final = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)


class RulesError(SettingsError):
    """The rules cannot be used. Raised at start; the message names the file and every rule and field that is wrong."""


class Fields:
    """The fields of one rule, read by name and type. What is wrong is collected; a field that is wrong reads as something harmless."""

    def __init__(self, table: Mapping[str, Any], place: str, problems: list[str]) -> None:
        self._table, self._place, self._problems = table, place, problems
        self._known = {"kind"}

    def text(self, name: str, allowed: str, accept: Callable[[str], object]) -> str:
        """A string that `accept` takes."""
        value = self._value(name, allowed)
        if isinstance(value, str) and accept(value):
            return value
        if value is not None:
            self.refuse(name, value, allowed)
        return ""

    def amount(self, name: str) -> int:
        """Money, in minor units."""
        allowed = (
            'an amount as a decimal string of at most two digits after the point, such as "100.00", not below zero'
        )
        value = self._value(name, allowed)
        try:
            minor = to_minor(value) if isinstance(value, str) else -1
        except ValueError:
            minor = -1
        if minor < 0 and value is not None:
            self.refuse(name, value, allowed)
        return max(minor, 0)

    def count(self, name: str, value: object = None, allowed: str = "a whole number from 1 to 1000000") -> int:
        """How many; of this field, or of a value inside it."""
        value = self._value(name, allowed) if value is None else value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
            return value
        if value is not None:
            self.refuse(name, value, allowed)
        return 1

    def span(self, name: str) -> int:
        """A time span, in microseconds."""
        text = self.text(name, 'a time span such as "30s", "5m", "1h" or "7d", at most 30d', _span_us)
        return _span_us(text) or 1

    def factor(self, name: str) -> Fraction:
        """How many times."""
        allowed = 'a factor above zero as a decimal string, such as "5" or "2.5"'
        text = self.text(name, allowed, lambda text: _FACTOR.fullmatch(text) and Fraction(text) > 0)
        return Fraction(text) if text else Fraction(1)

    def types(self) -> frozenset[str]:
        """Of which types the transactions are; debit when nothing is said."""
        value = self._value("types", "", default=["debit"])
        if isinstance(value, list) and value and all(isinstance(item, str) and item in TYPES for item in value):
            return frozenset(value)
        self.refuse("types", value, 'a list of "debit", "credit" or both')
        return TYPES

    def limits(self, name: str) -> tuple[tuple[str, int, int], ...]:
        """Limits by window."""
        allowed = (
            f'a table of windows ({", ".join(WINDOWS_US)}) and whole numbers from 1 to 1000000, such as {{ "1m" = 5 }}'
        )
        value = self._value(name, allowed)
        if not isinstance(value, dict) or not value or not value.keys() <= WINDOWS_US.keys():
            if value is not None:
                self.refuse(name, value, allowed)
            return ()
        return tuple(
            (window, length_us, self.count(name, value[window], allowed))
            for window, length_us in WINDOWS_US.items()
            if window in value
        )

    def sentence(self, words: frozenset[str]) -> str:
        """The explanation: text with words in braces, and nothing else that str.format would do."""
        allowed = f"a sentence whose words in braces are of {', '.join(sorted(words))}, without formats"
        return self.text("explanation", allowed, lambda text: _is_sentence(text, words))

    def finish(self) -> None:
        """Refuse what was not asked for."""
        for name in sorted(self._table.keys() - self._known):
            self._problems.append(
                f"{self._place}: there is no field {name!r}; allowed: {', '.join(sorted(self._known))}"
            )

    def refuse(self, name: str, value: object, allowed: str) -> None:
        """Say that a field is wrong."""
        self._problems.append(f"{self._place}: {name} = {value!r}; allowed: {allowed}")

    def _value(self, name: str, allowed: str, default: object = None) -> Any:
        self._known.add(name)
        value = self._table.get(name, default)
        if value is None:
            self._problems.append(f"{self._place}: {name} is missing; allowed: {allowed}")
        return value


def read_rules(document: Mapping[str, Any], file: str) -> RuleSet:
    """The rules of a document; `file` is its name, for messages. Raises RulesError."""
    problems: list[str] = []
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise RulesError(f"{file}: there are no rules; allowed: one [[rule]] table for each")
    problems += [f"{name!r} is no part of it; allowed: [[rule]] tables" for name in document if name != "rule"]
    rules: dict[str, Rule] = {}
    for number, table in enumerate(tables, 1):
        place = f"rule {table['id']!r}" if isinstance(table.get("id"), str) else f"rule number {number}"
        kind = table.get("kind")
        reader = KINDS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            problems.append(f"{place}: kind = {kind!r}; allowed: {', '.join(KINDS)}")
            continue
        fields = Fields(table, place, problems)
        rule = reader(fields)
        fields.finish()
        if rule.id in rules:
            problems.append(f"{place}: id {rule.id!r} is used twice; allowed: each once")
        rules[rule.id] = rule
    if problems:
        raise RulesError(f"{file}: {'; '.join(problems)}. Correct the file and start again.")
    return RuleSet(tuple(rules.values()))


def _common(fields: Fields, words: frozenset[str]) -> dict[str, Any]:
    severity = fields.text("severity", ", ".join(SEVERITIES), lambda text: text in SEVERITIES)
    return {
        "id": fields.text("id", "lower-case letters, digits and _, at most 64, a letter first", _ID.fullmatch),
        "severity": severity,
        "explanation": fields.sentence(words),
    }


def _card_testing(fields: Fields) -> Rule:
    probes = AmountFilter(fields.types(), at_most_minor=fields.amount("probe_at_most"))
    rule = CardTesting(
        **_common(fields, CardTesting.words),
        probes=probes,
        probe_count=fields.count("probe_count"),
        probe_window_us=fields.span("probe_window"),
        at_least_minor=fields.amount("at_least"),
        window_us=fields.span("window"),
    )
    if rule.at_least_minor <= probes.at_most_minor:
        fields.refuse("at_least", "an amount not above probe_at_most", "an amount above probe_at_most")
    return rule


def _velocity_count(fields: Fields) -> Rule:
    return VelocityCount(**_common(fields, VelocityCount.words), limits=fields.limits("limits"))


def _large_amount(fields: Fields) -> Rule:
    return LargeAmount(
        **_common(fields, LargeAmount.words),
        own=AmountFilter(fields.types()),
        factor=fields.factor("factor"),
        at_least_minor=fields.amount("at_least"),
        window_us=fields.span("window"),
        minimum_history=fields.count("minimum_history"),
    )


def _threshold(fields: Fields) -> Rule:
    amounts = AmountFilter(fields.types(), at_least_minor=fields.amount("at_least"))
    return Threshold(**_common(fields, Threshold.words), amounts=amounts)


def _structuring(fields: Fields) -> Rule:
    band = AmountFilter(fields.types(), fields.amount("at_least"), fields.amount("below") - 1)
    if band.at_most_minor < band.at_least_minor:
        fields.refuse("below", "an amount not above at_least", "an amount above at_least")
    return Structuring(
        **_common(fields, Structuring.words),
        band=band,
        minimum_count=fields.count("minimum_count"),
        window_us=fields.span("window"),
    )


KINDS: Final[dict[str, Callable[[Fields], Rule]]] = {
    "card_testing": _card_testing,
    "velocity_count": _velocity_count,
    "large_amount": _large_amount,
    "threshold": _threshold,
    "structuring": _structuring,
}
"""What each kind of rule is read by."""


def _span_us(text: str) -> int:
    match = _SPAN.fullmatch(text)
    length_us = int(match[1]) * _UNITS_US[match[2]] if match else 0
    return length_us if length_us <= MAX_SPAN_US else 0


def _is_sentence(text: str, words: frozenset[str]) -> bool:
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return False
    named = [(name, form, conversion) for _, name, form, conversion in parts if name is not None]
    return bool(text.strip()) and all(
        name in words and not form and conversion is None for name, form, conversion in named
    )
