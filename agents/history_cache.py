"""Keeps histories in memory within a limit in bytes, so that a customer with recent transactions is not read from the store again."""

from collections import OrderedDict
from typing import Final

from app.native.history import NativeHistory

LARGE: Final = 64
"""A history is large if so many of its size exceed the limit."""


class _Recent:
    """An LRU cache within a limit in bytes. The history used last always has room."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._histories: OrderedDict[int, tuple[NativeHistory, int]] = OrderedDict()

    def take(self, customer_id: int) -> NativeHistory | None:
        found = self._histories.pop(customer_id, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]

    def put(self, customer_id: int, history: NativeHistory, size: int) -> None:
        self._histories[customer_id] = history, size
        self._bytes += size
        while self._bytes > self._limit and len(self._histories) > 1:
            _, (_, size) = self._histories.popitem(last=False)
            self._bytes -= size


class HistoryCache:
    """The histories used last. Half of the limit is for large ones, so that no customer empties the cache for all others."""

    def __init__(self, limit: int, truncated_lsn: int | None = None) -> None:
        """`limit`: in bytes. `truncated_lsn`: the log position of the last TRUNCATE of transactions."""
        self.truncated_lsn = truncated_lsn
        self._large_from = limit // LARGE
        self._small, self._large = _Recent(limit - limit // 2), _Recent(limit // 2)

    def take(self, customer_id: int) -> NativeHistory | None:
        """Removes a customer's history from the cache and returns it; None if it is not cached. `put` it back after use."""
        found = self._small.take(customer_id)
        return self._large.take(customer_id) if found is None else found

    def put(self, customer_id: int, history: NativeHistory) -> None:
        """Insert a history as the one used last. Evicts those used least recently beyond the limit."""
        size = history.memory_bytes
        (self._large if size >= self._large_from else self._small).put(customer_id, history, size)
