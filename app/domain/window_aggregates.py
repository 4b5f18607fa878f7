"""What a cursor in time knows of everything up to it: sums, maxima and distinct counts of any window that ends there, in O(log n).

Tracks grow at their end (`push`) and can take back what came last (`pop`), so that a cursor may move both ways. Times never fall
from one push to the next. Windows are (after, end], with the end where the cursor stands.
"""

from bisect import bisect_left, bisect_right, insort
from typing import Protocol

Key = tuple[int, int, int]
"""(event time, account, transaction): where an event stands in its customer's order."""


class AmountLookup(Protocol):
    """Amounts in order, by position from 0, as a rule looks them up."""

    def __len__(self) -> int: ...

    def first_after(self, after_us: int, end: int) -> int:
        """The first position, of those below `end`, that is later than `after_us`; `end` if none is."""
        ...

    def total(self, first: int) -> int:
        """The sum from a position on."""
        ...

    def key(self, position: int) -> Key:
        """Of the amount at a position."""
        ...


class AmountAggregate:
    """Amounts in order: count, sum and maximum of a window. Implements `AmountLookup`.

    `rows` has for every amount: the sum up to it, itself, and the row of the peak that it came to lie on; row 0 stands before the first.
    `peaks` are the rows of the amounts that no later one reaches: the first of them inside a window is its maximum. What an amount lies
    on is what `pop` needs to bring back the peaks that it covered.
    """

    __slots__ = ("keys", "peaks", "rows", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.keys: list[Key] = []
        self.rows: list[tuple[int, int, int]] = [(0, 0, 0)]
        self.peaks: list[int] = []

    def __len__(self) -> int:
        return len(self.times)

    def push(self, key: Key, amount: int) -> None:
        """Add an amount at the end."""
        peaks, rows = self.peaks, self.rows
        while peaks and rows[peaks[-1]][1] <= amount:
            peaks.pop()
        below = peaks[-1] if peaks else 0
        peaks.append(len(rows))
        rows.append((rows[-1][0] + amount, amount, below))
        self.times.append(key[0])
        self.keys.append(key)

    def pop(self) -> None:
        """Take back the last amount."""
        rows = self.rows
        _, _, floor = rows.pop()
        self.times.pop()
        self.keys.pop()
        self.peaks.pop()
        row, covered = len(rows) - 1, []
        while row > floor:
            covered.append(row)
            row = rows[row][2]
        self.peaks += reversed(covered)

    def first_after(self, after_us: int, end: int) -> int:
        """See `AmountLookup`."""
        return bisect_right(self.times, after_us, 0, end)

    def total(self, first: int) -> int:
        """See `AmountLookup`."""
        return self.rows[-1][0] - self.rows[first][0]

    def key(self, position: int) -> Key:
        """See `AmountLookup`."""
        return self.keys[position]


class DistinctAggregate:
    """How many different values a window has: those whose last occurrence is in it."""

    __slots__ = ("_seen", "last")

    def __init__(self) -> None:
        self._seen: dict[int | str, list[int]] = {}
        self.last: list[int] = []
        """When each value was seen last, in order."""

    def push(self, value: int | str, time_us: int) -> None:
        """Add an occurrence at the end."""
        times = self._seen.get(value)
        if times is None:
            self._seen[value] = [time_us]
        elif self.last[-1] == times[-1]:
            times.append(time_us)
            self.last[-1] = time_us
            return
        else:
            del self.last[bisect_left(self.last, times[-1])]
            times.append(time_us)
        self.last.append(time_us)

    def pop(self, value: int | str) -> None:
        """Take back the last occurrence of all, which was one of `value`."""
        times = self._seen[value]
        times.pop()
        self.last.pop()
        if times:
            insort(self.last, times[-1])
        else:
            del self._seen[value]

    def count(self, after_us: int) -> int:
        """Different values later than `after_us`."""
        return len(self.last) - bisect_right(self.last, after_us)
