"""The tables of current rows, one per captured table. Key: the row's primary key.

Value: the row as the source sent it, its open version and its log position.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from app.domain.captured import CapturedTable
from app.domain.scd2 import RowState
from app.engine.table import Table
from tables.encoding import decode_number_key, number_key

RowKey = tuple[int | str, ...]
"""The values of a primary key, in the key's order."""

RowTable = Table[RowKey, RowState]

_decode_row: Final = lru_cache(maxsize=10_000)(msgspec.json.Decoder(RowState).decode)
"""Cached, because an account's row is read with each of its transactions and seldom changes. Callers must not modify the attributes."""


def integer_keyed(name: str) -> RowTable:
    """Returns a table whose keys are integers."""
    return Table(name, lambda key: number_key(*key), msgspec.json.encode, _decode_row)


ACCOUNTS: Final[RowTable] = integer_keyed("accounts")
CUSTOMERS: Final[RowTable] = integer_keyed("customers")
_NAMED: Final = {rows.name: rows for rows in (ACCOUNTS, CUSTOMERS)}


def declared_rows(table: CapturedTable) -> RowTable:
    """Returns the table of a captured table's current rows."""
    if table.name in _NAMED:
        return _NAMED[table.name]
    name = f"rows-{table.name}"
    return (
        integer_keyed(name) if table.integer_key else Table(name, msgspec.json.encode, msgspec.json.encode, _decode_row)
    )


def key_reader(table: CapturedTable) -> Callable[[bytes], RowKey]:
    """Returns the decoder of the raw keys that a scan of the table returns."""
    if table.integer_key:
        return decode_number_key
    return lambda raw: tuple(msgspec.json.decode(raw))
