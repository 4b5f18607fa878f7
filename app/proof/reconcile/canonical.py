"""One text form for a value of PostgreSQL and the same value as Debezium wrote it, so that equal means equal to the last digit.

PostgreSQL's side is `column::text` in a session with ISO dates and UTC; Debezium's is JSON with decimals as strings and times in ISO 8601.
NULL stays None and is not the empty text. Nothing passes through a binary float, but columns that are floats.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

Value = str | None
Convert = Callable[[Any], str]

PLAIN: Final = frozenset("0123456789.-")


def number(value: Any) -> str:
    """A decimal without superfluous zeros.

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
    """An instant in UTC with as many digits of the second as it needs; also a day (`1815-12-10Z`) and a local time.

    >>> instant("2026-11-23 13:17:57.5+00"), instant("2026-11-23T13:17:57.500000Z"), instant("1815-12-10Z")
    ('2026-11-23T13:17:57.5', '2026-11-23T13:17:57.5', '1815-12-10')
    """
    text = str(value).removesuffix("Z").removesuffix("+00:00").removesuffix("+00").replace(" ", "T", 1)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    elif text.count(":") == 1:  # ISO 8601 may leave out seconds that are zero
        text += ":00"
    return text


def truth(value: Any) -> str:
    """A boolean."""
    return "true" if value in (True, "true", "t") else "false"


def padded(value: Any) -> str:
    """CHAR(n), whose trailing blanks mean nothing."""
    return str(value).rstrip(" ")


def binary_float(value: Any) -> str:
    """A double: both sides write the shortest text that gives it back, in different notations."""
    return repr(float(value))


def document(value: Any) -> str:
    """A JSON document, whatever the order of its keys."""
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
"""By PostgreSQL's name of the type. Every other type is its text."""


def converter(type_name: str) -> Convert:
    """How values of this type become text."""
    return CONVERTERS.get(type_name, str)


def encoded(row: tuple[Value, ...]) -> bytes:
    """A row as bytes for hashing: two rows have the same bytes only if they have the same values."""
    return msgspec.json.encode(row)
