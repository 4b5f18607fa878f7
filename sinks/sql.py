"""Checks identifiers and literals for SQL text that cannot be bound. Only allow-listed characters are accepted; none are escaped."""

import re
from typing import Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9._/-]*")


def identifier(name: str) -> str:
    """Returns a name that needs no quotes. Raises ValueError for any other.

    >>> identifier("BRONZE")
    'BRONZE'
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain SQL identifier")
    return name


def literal(text: str) -> str:
    """Returns a quoted string of letters, digits and `._/-`, which topics, object names and hashes consist of. Raises ValueError otherwise.

    >>> literal("bank.alerts")
    "'bank.alerts'"
    """
    if not _LITERAL.fullmatch(text):
        raise ValueError(f"{text!r} has characters that are not allowed in a name")
    return f"'{text}'"
