"""Orders, compares and reports primary keys.

Both sides use one order: integers and NUMERIC numerically, every other type by the bytes of its canonical text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from psycopg import sql

from app.domain.captured import KeyType
from app.proof.reconcile.canonical import PLAIN, Value, number
from app.proof.reconcile.report import Key, ReconcileError

INSTANTS: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})
DIGITS: Final = 38
"""The precision of the warehouse's numbers. A NUMERIC key is sorted exactly up to this precision."""
FREE_SCALE: Final = 18
"""The digits after the point if the source's column has no declared scale."""

Order = tuple[int | Decimal | str, ...]
"""A key in the form in which rows are compared."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of a primary key. `place` is its index among the columns of the table."""

    name: str
    kind: KeyType
    type_name: str
    scale: int | None
    place: int

    @property
    def source_order(self) -> sql.Composable:
        """The ORDER BY expression for PostgreSQL."""
        column = sql.SQL("kept.{}").format(sql.Identifier(self.name))
        return column if self._is_number else sql.SQL('{}::text COLLATE "C"').format(column)

    def warehouse_order(self, text: str) -> str:
        """Returns the warehouse's ORDER BY expression for the same order. `text` is the expression of the value as Debezium wrote it."""
        if self.kind == "integer":
            return text
        if self._is_number:
            scale = FREE_SCALE if self.scale is None else min(max(self.scale, 0), DIGITS - 1)
            return f"try_cast({text} as number({DIGITS}, {scale})) nulls last"
        if self.type_name in INSTANTS:
            return f"rtrim(iff(contains({text}, '.'), rtrim(rtrim({text}, 'Z'), '0'), rtrim({text}, 'Z')), '.')"
        return f"rtrim({text}, ' ')" if self.type_name == "character" else text

    def value(self, row: Sequence[Value]) -> int | Decimal | str:
        """Returns the column's value in a row, comparable in that order."""
        text = row[self.place] or ""
        if not self._is_number:
            return text
        if not text or not PLAIN.issuperset(text):
            raise ReconcileError(
                f"a key has a {self.name} that is not a finite number, although the source's column is {self.type_name}. Look for it "
                "in the source and in the raw changes: rows cannot be sorted by it."
            )
        return int(text) if self.kind == "integer" else Decimal(text)

    @property
    def _is_number(self) -> bool:
        return self.kind == "integer" or self.type_name == "numeric"


def order_of(key: tuple[KeyColumn, ...], row: Sequence[Value]) -> Order:
    """Returns the key by which a row is compared."""
    return tuple(column.value(row) for column in key)


def reported(order: Order) -> Key:
    """Returns a key for a report: integers unchanged, other types as canonical text; several columns as a tuple."""
    found = tuple(number(value) if isinstance(value, Decimal) else value for value in order)
    return found[0] if len(found) == 1 else found


def texts(order: Order) -> tuple[str, ...]:
    """Returns a key's columns as texts, for hashing."""
    return tuple(number(value) if isinstance(value, Decimal) else str(value) for value in order)
