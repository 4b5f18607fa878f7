"""Computes sums, maxima and distinct counts of any window that ends at a cursor in time, in O(log n).

An aggregate adds at its end (`push`) and removes the last addition (`pop`), so the cursor can move forward and back. Times never
decrease from one push to the next. Windows are (after, end]; the end is the position of the cursor.
"""

from bisect import bisect_left, bisect_right, insort

from app.domain.events import Key


class AmountAggregate:
    """Amounts in order, for the count, sum and maximum of a window. Implements `AmountLookup`.

    `rows` has for every amount: the sum up to and including it, the amount, and the row of the peak before it in `peaks` when it was
    added (0 if none). Row 0 is a sentinel before the first amount. `peaks` holds, in order, the rows of the amounts that are greater than
    every later amount: the first of them inside a window is the maximum of the window. `push` drops the peaks that are not greater than
    the new amount; `pop` restores them from the third field.
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
        """Remove the last amount."""
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
    """Counts the distinct values in a window: those whose last occurrence is in it."""

    __slots__ = ("_seen", "last")

    def __init__(self) -> None:
        self._seen: dict[int | str, list[int]] = {}
        self.last: list[int] = []
        """The time of the last occurrence of each value, in ascending order."""

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
        """Remove the latest occurrence of any value; it must be an occurrence of `value`."""
        times = self._seen[value]
        times.pop()
        self.last.pop()
        if times:
            insort(self.last, times[-1])
        else:
            del self._seen[value]

    def count(self, after_us: int) -> int:
        """Returns the number of distinct values with an occurrence later than `after_us`."""
        return len(self.last) - bisect_right(self.last, after_us)
