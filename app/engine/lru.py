"""Defines a mapping of limited size that evicts the least recently used entry."""

from collections import OrderedDict
from typing import TypeVar

_get = OrderedDict.__getitem__

K = TypeVar("K")
V = TypeVar("V")


class LruDict(OrderedDict[K, V]):
    """At most `limit` entries. Reading by `[]` or `get` counts as use."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __getitem__(self, key: K) -> V:
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]  # narrower than dict's overloads
        """Returns the value of a key, or the default."""
        try:
            self.move_to_end(key)
        except KeyError:
            return default
        return _get(self, key)

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)
