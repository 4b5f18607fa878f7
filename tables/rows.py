"""Current rows of a captured table. Key: its primary key. Value: the row as the source sent it, its open version and its log position."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from app.domain.captured import CapturedTable
from app.domain.scd2 import RowState
from app.engine.table import Table
from tables.encoding import number_key, numbers

RowKey = tuple[int | str, ...]
"""The values of a primary key, in the key's order."""

Rows = Table[RowKey, RowState]

_decode_row: Final = lru_cache(maxsize=10_000)(msgspec.json.Decoder(RowState).decode)
"""An account's row is read with each of its transactions, and mostly it is the same as before. Nobody changes the attributes in place."""


def integers(name: str) -> Rows:
    """A table whose keys are integers."""
    return Table(name, lambda key: number_key(*key), msgspec.json.encode, _decode_row)


ACCOUNTS: Final[Rows] = integers("accounts")
CUSTOMERS: Final[Rows] = integers("customers")
_NAMED: Final = {rows.name: rows for rows in (ACCOUNTS, CUSTOMERS)}


def rows_of(table: CapturedTable) -> Rows:
    """The state of a captured table."""
    if table.name in _NAMED:
        return _NAMED[table.name]
    name = f"rows-{table.name}"
    return integers(name) if table.integer_key else Table(name, msgspec.json.encode, msgspec.json.encode, _decode_row)


def key_reader(table: CapturedTable) -> Callable[[bytes], RowKey]:
    """How to read the keys that a scan of the table's state gives."""
    if table.integer_key:
        return numbers
    return lambda raw: tuple(msgspec.json.decode(raw))
