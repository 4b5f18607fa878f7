"""Converts a value of PostgreSQL, and the same value as Debezium wrote it, to one canonical text, so that they compare to the last digit.

PostgreSQL's side is `column::text` in a session with ISO dates and UTC. Debezium's is JSON with decimals as strings and times in ISO 8601.
NULL is None, not the empty text. Only columns of a float type pass through a binary float.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

Value = str | None
Convert = Callable[[Any], str]

PLAIN: Final = frozenset("0123456789.-")


def number(value: Any) -> str:
    """Returns a decimal without superfluous zeros.

    >>> number("12.50"), number("1E+3"), number("-0.00"), number(7), number("NaN")
    ('12.5', '1000', '0', '7', 'NaN')
    """
    text = str(value)
    if not PLAIN.issuperset(text):
        try:
            text = format(Decimal(text), "f")
        except InvalidOperation:
            return text
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "", "-") else text


def instant(value: Any) -> str:
    """Returns an instant in UTC without superfluous digits of the second; also converts a day (`1815-12-10Z`) and a local time.

    >>> instant("2026-11-23 13:17:57.5+00"), instant("2026-11-23T13:17:57.500000Z"), instant("1815-12-10Z")
    ('2026-11-23T13:17:57.5', '2026-11-23T13:17:57.5', '1815-12-10')
    """
    text = str(value).removesuffix("Z").removesuffix("+00:00").removesuffix("+00").replace(" ", "T", 1)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    elif text.count(":") == 1:  # ISO 8601 may omit seconds that are zero
        text += ":00"
    return text


def truth(value: Any) -> str:
    """Returns a boolean as `true` or `false`."""
    return "true" if value in (True, "true", "t") else "false"


def padded(value: Any) -> str:
    """Returns a CHAR(n) without its trailing blanks, which carry no meaning."""
    return str(value).rstrip(" ")


def binary_float(value: Any) -> str:
    """Returns a double in one notation. Both sides write the shortest text that yields the same double, but in different notations."""
    return repr(float(value))


def document(value: Any) -> str:
    """Returns a JSON document with its keys in one order."""
    parsed = msgspec.json.decode(value) if isinstance(value, str) else value
    return msgspec.json.encode(parsed, order="deterministic").decode()


CONVERTERS: Final[dict[str, Convert]] = {
    "numeric": number,
    "smallint": number,
    "integer": number,
    "bigint": number,
    "timestamp with time zone": instant,
    "timestamp without time zone": instant,
    "date": instant,
    "boolean": truth,
    "real": binary_float,
    "double precision": binary_float,
    "character": padded,
    "json": document,
    "jsonb": document,
}
"""The converters by PostgreSQL's name of the type. Every other type is compared as text."""


def converter(type_name: str) -> Convert:
    """Returns the function that converts values of this type."""
    return CONVERTERS.get(type_name, str)


def encoded(row: tuple[Value, ...]) -> bytes:
    """Returns a row as bytes for hashing: two rows have the same bytes only if they have the same values."""
    return msgspec.json.encode(row)
