"""Compares two streams of rows in key order by a merge: missing, extra and different rows, counts, sums and hashes."""

import hashlib
from collections.abc import Callable, Iterator
from decimal import Context, Decimal, InvalidOperation
from typing import Final

from app.proof.reconcile.canonical import Value, encoded
from app.proof.reconcile.keys import Order, reported, texts
from app.proof.reconcile.report import MAX_DIFFERENCES, Difference, ReconcileError, Sums, TableReport
from app.proof.reconcile.source import Column

Row = tuple[Value, ...]
Rows = Iterator[tuple[Order, Row]]
EXACT: Final = Context(prec=60)
REPORT_EVERY: Final = 5_000


class _Side:
    """One side of the comparison: the current row, and the count, hash and sums of the rows so far."""

    def __init__(self, rows: Rows, money: tuple[int, ...]) -> None:
        self._rows, self._money = rows, money
        self._digest = hashlib.sha256()
        self.count = 0
        self.sums = dict.fromkeys(money, Decimal())
        self.key: Order | None = None
        self.row: Row = ()
        self.advance()

    def advance(self) -> None:
        """Moves to the next row; after the last, `key` is None."""
        try:
            key, self.row = next(self._rows)
        except StopIteration:
            self.key = None
            return
        if self.key is not None and key <= self.key:
            raise ReconcileError(
                f"rows must be in the order of their keys, without duplicates: {reported(key)!r} follows {reported(self.key)!r}. Texts "
                "have to be sorted by their bytes: check whether the warehouse's database or account has a DEFAULT_DDL_COLLATION"
            )
        self.key = key
        self.count += 1
        self._digest.update(encoded((*texts(key), *self.row)))
        for index in self._money:
            value = self.row[index]
            if value is not None:
                try:
                    self.sums[index] = EXACT.add(self.sums[index], Decimal(value))
                except InvalidOperation:
                    self.sums[index] = Decimal("NaN")  # not a number: the row is reported as a difference

    @property
    def hash(self) -> str:
        """The hash of all rows so far."""
        return self._digest.hexdigest()


def compare(
    source: Rows, warehouse: Rows, columns: tuple[Column, ...], progress: Callable[[int], object] = lambda _rows: None
) -> TableReport:
    """Compares both sides to their ends. `progress` is called from time to time with the number of source rows compared."""
    money = tuple(index for index, column in enumerate(columns) if column.money)
    left, right = _Side(source, money), _Side(warehouse, money)
    differences: list[Difference] = []
    more = 0
    while left.key is not None or right.key is not None:
        found: Difference | None = None
        if right.key is None or (left.key is not None and left.key < right.key):
            assert left.key is not None
            found = Difference(reported(left.key), "missing")
            left.advance()
        elif left.key is None or right.key < left.key:
            found = Difference(reported(right.key), "extra")
            right.advance()
        else:
            if left.row != right.row:
                pairs = zip(columns, left.row, right.row, strict=True)
                names = tuple(column.name for column, ours, theirs in pairs if ours != theirs)
                found = Difference(reported(left.key), "different", names)
            left.advance()
            right.advance()
        if found is not None:
            if len(differences) < MAX_DIFFERENCES:
                differences.append(found)
            else:
                more += 1
        if left.count % REPORT_EVERY == 0:
            progress(left.count)
    progress(left.count)
    return TableReport(
        source_rows=left.count,
        warehouse_rows=right.count,
        source_hash=left.hash,
        warehouse_hash=right.hash,
        sums={columns[i].name: Sums(_money(left.sums[i]), _money(right.sums[i])) for i in money},
        differences=tuple(differences),
        more_differences=more,
    )


def _money(total: Decimal) -> str:
    return format(total.quantize(Decimal("0.01"), context=EXACT), "f") if total.is_finite() else str(total)
