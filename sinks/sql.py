"""Identifiers and literals for SQL text that cannot be bound: allow-listed, never escaped by guesswork."""

import re
from typing import Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9._/-]*")


def identifier(name: str) -> str:
    """A name that needs no quotes. ValueError for any other.

    >>> identifier("BRONZE")
    'BRONZE'
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is no plain SQL identifier")
    return name


def literal(text: str) -> str:
    """A quoted string of letters, digits and `._/-`, which is all that topics, object names and hashes are made of. ValueError otherwise.

    >>> literal("bank.alerts")
    "'bank.alerts'"
    """
    if not _LITERAL.fullmatch(text):
        raise ValueError(f"{text!r} has characters that have no place in a name")
    return f"'{text}'"
