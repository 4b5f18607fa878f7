"""Reads the fields of one rule from rules.toml and collects every problem in them."""

import re
import string
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from app.domain.money import to_minor
from app.domain.records import WINDOWS_US
from app.domain.rules.verdicts import SEVERITIES
from app.errors import SettingsError

MAX_SPAN_US: Final = WINDOWS_US["30d"]
TYPES: Final = frozenset({"debit", "credit"})

_UNITS_US: Final = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_SPAN: Final = re.compile(r"([1-9]\d{0,6})([smhd])", re.ASCII)
_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_FACTOR: Final = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)


class RulesError(SettingsError):
    """The rules are invalid. Raised at start; the message names the file and every invalid rule and field."""


class Fields:
    """Reads the fields of one rule by name and type. Collects the problems; an invalid field reads as a harmless default."""

    def __init__(self, table: Mapping[str, Any], place: str, problems: list[str]) -> None:
        self._table, self._place, self._problems = table, place, problems
        self._known = {"kind"}

    def text(self, name: str, allowed: str, accept: Callable[[str], object]) -> str:
        """Returns a string for which `accept` is true."""
        value = self._value(name, allowed)
        if isinstance(value, str) and accept(value):
            return value
        if value is not None:
            self.refuse(name, value, allowed)
        return ""

    def amount(self, name: str) -> int:
        """Returns an amount of money in minor units."""
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
        """Returns a count: the value of this field, or `value` if it is given."""
        value = self._value(name, allowed) if value is None else value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
            return value
        if value is not None:
            self.refuse(name, value, allowed)
        return 1

    def span(self, name: str) -> int:
        """Returns a time span in microseconds."""
        text = self.text(name, 'a time span such as "30s", "5m", "1h" or "7d", at most 30d', _span_us)
        return _span_us(text) or 1

    def factor(self, name: str) -> Fraction:
        """Returns a factor above zero."""
        allowed = 'a factor above zero as a decimal string, such as "5" or "2.5"'
        text = self.text(name, allowed, lambda text: _FACTOR.fullmatch(text) and Fraction(text) > 0)
        return Fraction(text) if text else Fraction(1)

    def types(self) -> frozenset[str]:
        """Returns the transaction types; debit if the field is missing."""
        value = self._value("types", "", default=["debit"])
        if isinstance(value, list) and value and all(isinstance(item, str) and item in TYPES for item in value):
            return frozenset(value)
        self.refuse("types", value, 'a list of "debit", "credit" or both')
        return TYPES

    def limits(self, name: str) -> tuple[tuple[str, int, int], ...]:
        """Returns (window, its length in microseconds, limit) for each window in the field, the shortest first."""
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
        """Returns the explanation: text with placeholders in braces, without format specifications or conversions."""
        allowed = f"a sentence whose words in braces are of {', '.join(sorted(words))}, without formats"
        return self.text("explanation", allowed, lambda text: _is_sentence(text, words))

    def finish(self) -> None:
        """Add a problem for every field that was not read."""
        for name in sorted(self._table.keys() - self._known):
            self._problems.append(
                f"{self._place}: there is no field {name!r}; allowed: {', '.join(sorted(self._known))}"
            )

    def refuse(self, name: str, value: object, allowed: str) -> None:
        """Add the problem that a field is invalid."""
        self._problems.append(f"{self._place}: {name} = {value!r}; allowed: {allowed}")

    def _value(self, name: str, allowed: str, default: object = None) -> Any:
        self._known.add(name)
        value = self._table.get(name, default)
        if value is None:
            self._problems.append(f"{self._place}: {name} is missing; allowed: {allowed}")
        return value


def common_fields(fields: Fields, placeholders: frozenset[str]) -> dict[str, Any]:
    """Returns the fields of every kind of rule: id, severity and explanation."""
    severity = fields.text("severity", ", ".join(SEVERITIES), lambda text: text in SEVERITIES)
    return {
        "id": fields.text("id", "lower-case letters, digits and _, at most 64, a letter first", _ID.fullmatch),
        "severity": severity,
        "explanation": fields.sentence(placeholders),
    }


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
