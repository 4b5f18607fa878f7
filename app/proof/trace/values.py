"""Compares values: JSON regardless of its formatting, and columns of the warehouse with the values that they were made from."""

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from app.domain.changes import Row
from app.proof.reconcile import canonical


def parsed(text: str | bytes) -> Any:
    """Parses JSON with exact numbers. ValueError if the text is not JSON."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def same(one: Any, other: Any) -> bool:
    """Returns whether two values from `parsed` are equal, regardless of the order of names and the spelling of numbers.

    >>> same(parsed('{"a":1.50,"b":[true]}'), parsed('{"b": [true], "a": 1.5}'))
    True
    >>> same(parsed("1"), parsed("true")), same(parsed('"1"'), parsed("1")), same(parsed('{"a":null}'), parsed("{}"))
    (False, False, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return one == other or float(one) == float(other) != float("inf")  # an exponent makes a number a double there
    return type(one) is type(other) and bool(one == other)


def plain(row: Row) -> dict[str, Any]:
    """Returns the columns of a change as `parsed` values."""
    return {name: parsed(bytes(value)) for name, value in row.items()}


def differing(row: Mapping[str, Any], made_from: Mapping[str, Any]) -> list[str]:
    """Returns the columns of a warehouse row that differ from their source values. Names that only one side has are not compared."""
    return sorted(name for name in row.keys() & made_from.keys() if not column_equals(row[name], made_from[name]))


def column_equals(column: Any, value: Any) -> bool:
    """Returns whether a typed column equals a JSON value of a record: text, a number, a boolean, a document or null.

    >>> from datetime import datetime
    >>> column_equals(datetime(2026, 3, 2, 9, 0), "2026-03-02T09:00:00.000000Z")
    True
    >>> column_equals(Decimal("12.50"), "12.5"), column_equals(None, "")
    (True, False)
    """
    if column is None and isinstance(value, str) and value.endswith("infinity"):
        return True  # the warehouse's timestamps have no infinity
    if column is None or value is None:
        return column is value
    if isinstance(column, bool):
        return bool(column is value)
    if isinstance(column, datetime):
        return canonical.instant(column.isoformat(sep=" ")) == canonical.instant(value)
    if isinstance(column, date):
        return column.isoformat() == str(value)[:10]
    if isinstance(column, int | float | Decimal):
        return canonical.number(column) == canonical.number(value)
    if isinstance(value, dict | list):
        return same(parsed(column), value)
    if isinstance(value, bool):
        return str(column) == str(value).lower()
    return str(column) == str(value)


def differing_paths(one: Any, other: Any, path: str = "") -> list[str]:
    """Returns where two `parsed` values differ, as dotted names without the values.

    >>> differing_paths(parsed('{"a":{"b":1,"c":2}}'), parsed('{"a":{"b":1,"c":3},"d":0}'))
    ['a.c', 'd']
    """
    if isinstance(one, dict) and isinstance(other, dict):
        names = [*one, *(name for name in other if name not in one)]
        absent = object()
        return [
            found
            for name in names
            for found in differing_paths(one.get(name, absent), other.get(name, absent), f"{path}.{name}".lstrip("."))
        ]
    return [] if same(one, other) else [path or "the whole value"]
