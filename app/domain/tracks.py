"""What a cursor in time knows of everything up to it: sums, maxima and distinct counts of any window that ends there, in O(log n).

Tracks grow at their end (`push`) and can take back what came last (`pop`), so that a cursor may move both ways. Times never fall
from one push to the next. Windows are (after, end], with the end where the cursor stands.
"""

from bisect import bisect_left, bisect_right, insort
from typing import Final

Key = tuple[int, int, int]
"""(event time, account, transaction): where an event stands in its customer's order."""

_BOTTOM: Final = -1


class AmountTrack:
    """Amounts in order: count, sum and maximum of a window.

    `_peaks` are the positions of the amounts that no later one reaches: the first of them inside a window is its maximum.
    `_below` remembers for every position which peak it came to lie on, so that `pop` can bring back the peaks that it covered.
    """

    __slots__ = ("_amounts", "_below", "_peaks", "_totals", "keys", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.keys: list[Key] = []
        self._amounts: list[int] = []
        self._totals: list[int] = [0]
        self._peaks: list[int] = []
        self._below: list[int] = []

    def push(self, key: Key, amount: int) -> None:
        """Add an amount at the end."""
        peaks, amounts = self._peaks, self._amounts
        while peaks and amounts[peaks[-1]] <= amount:
            peaks.pop()
        self._below.append(peaks[-1] if peaks else _BOTTOM)
        peaks.append(len(amounts))
        amounts.append(amount)
        self._totals.append(self._totals[-1] + amount)
        self.times.append(key[0])
        self.keys.append(key)

    def pop(self) -> None:
        """Take back the last amount."""
        for column in (self.times, self.keys, self._amounts, self._totals, self._peaks):
            column.pop()
        floor, position, covered = self._below.pop(), len(self._amounts) - 1, []
        while position > floor:
            covered.append(position)
            position = self._below[position]
        self._peaks += reversed(covered)

    def window(self, after_us: int) -> tuple[int, int, int]:
        """Count, sum and maximum of what is later than `after_us`; the maximum of nothing is 0."""
        first = bisect_right(self.times, after_us)
        count = len(self.times) - first
        if not count:
            return 0, 0, 0
        return (
            count,
            self._totals[-1] - self._totals[first],
            self._amounts[self._peaks[bisect_left(self._peaks, first)]],
        )

    def latest(self, after_us: int, limit: int) -> list[Key]:
        """The keys of what is later than `after_us`, the newest first, at most `limit`."""
        first = max(bisect_right(self.times, after_us), len(self.times) - limit)
        return self.keys[first:][::-1]


class DistinctTrack:
    """How many different values a window has: those whose last occurrence is in it."""

    __slots__ = ("_last", "_seen")

    def __init__(self) -> None:
        self._seen: dict[int | str, list[int]] = {}
        self._last: list[int] = []

    def push(self, value: int | str, time_us: int) -> None:
        """Add an occurrence at the end."""
        times = self._seen.get(value)
        if times is None:
            self._seen[value] = [time_us]
        else:
            del self._last[bisect_left(self._last, times[-1])]
            times.append(time_us)
        self._last.append(time_us)

    def pop(self, value: int | str) -> None:
        """Take back the last occurrence of all, which was one of `value`."""
        times = self._seen[value]
        times.pop()
        self._last.pop()
        if times:
            insort(self._last, times[-1])
        else:
            del self._seen[value]

    def count(self, after_us: int) -> int:
        """Different values later than `after_us`."""
        return len(self._last) - bisect_right(self._last, after_us)
