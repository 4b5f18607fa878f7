"""Primary keys: how each side sorts by one, how two are compared, and how one is reported.

Both sides come in one order: integers and NUMERIC numerically, everything else by the bytes of its canonical text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from psycopg import sql

from app.domain.captured import KeyType
from app.proof.reconcile.canonical import PLAIN, Value, number
from app.proof.reconcile.report import Key, ReconcileError

INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
INSTANTS: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})
DIGITS: Final = 38
"""Of the warehouse's numbers. A NUMERIC key is sorted exactly up to so many."""
FREE_SCALE: Final = 18
"""How many of them stand after the point if the source's column has no declared scale."""

Order = tuple[int | Decimal | str, ...]
"""A key by which rows are compared."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of a primary key. `place` is that of its column among the columns of the table."""

    name: str
    kind: KeyType
    type_name: str
    scale: int | None
    place: int

    @property
    def source_order(self) -> sql.Composable:
        """What PostgreSQL sorts by."""
        column = sql.SQL("kept.{}").format(sql.Identifier(self.name))
        return column if self._is_number else sql.SQL('{}::text COLLATE "C"').format(column)

    def warehouse_order(self, text: str) -> str:
        """What the warehouse sorts by, for the same order; `text` is the expression of the column's value as Debezium wrote it."""
        if self.kind == "integer":
            return text
        if self._is_number:
            scale = FREE_SCALE if self.scale is None else min(max(self.scale, 0), DIGITS - 1)
            return f"try_cast({text} as number({DIGITS}, {scale})) nulls last"
        if self.type_name in INSTANTS:
            return f"rtrim(iff(contains({text}, '.'), rtrim(rtrim({text}, 'Z'), '0'), rtrim({text}, 'Z')), '.')"
        return f"rtrim({text}, ' ')" if self.type_name == "character" else text

    def value(self, row: Sequence[Value]) -> int | Decimal | str:
        """The column's value in a row, comparable in that order."""
        text = row[self.place] or ""
        if not self._is_number:
            return text
        if not text or not PLAIN.issuperset(text):
            raise ReconcileError(
                f"a key has a {self.name} that is no finite number, although the source's column is {self.type_name}. Look for it "
                "in the source and in the raw changes: rows cannot be put in order by it."
            )
        return int(text) if self.kind == "integer" else Decimal(text)

    @property
    def _is_number(self) -> bool:
        return self.kind == "integer" or self.type_name == "numeric"


def order_of(key: tuple[KeyColumn, ...], row: Sequence[Value]) -> Order:
    """By what a row is compared."""
    return tuple(column.value(row) for column in key)


def reported(order: Order) -> Key:
    """A key as a report has it: integers as they are, everything else as its canonical text; several columns as a tuple."""
    found = tuple(number(value) if isinstance(value, Decimal) else value for value in order)
    return found[0] if len(found) == 1 else found


def texts(order: Order) -> tuple[str, ...]:
    """A key's columns as texts, for hashing."""
    return tuple(number(value) if isinstance(value, Decimal) else str(value) for value in order)
