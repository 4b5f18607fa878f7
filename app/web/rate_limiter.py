"""Limits request rates with token buckets: a bucket refills by `rate` a second, up to two seconds' worth; a request takes one token."""

import time
from collections.abc import Callable
from typing import Final

from app.engine.lru import LruDict

BURST_S: Final = 2
MAX_BUCKETS: Final = 10_000


class RateLimiter:
    """The buckets by name. Past MAX_BUCKETS the least recently used one is dropped; its owner then starts with a full bucket."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: LruDict[str, tuple[float, float]] = LruDict(MAX_BUCKETS)

    def wait_s(self, name: str, rate: float) -> float:
        """Take one token and return 0; if there is none, return the seconds until there is one."""
        now = self._clock()
        full = BURST_S * rate
        level, since = self._buckets.get(name) or (full, now)
        level = min(full, level + (now - since) * rate)
        if level < 1:
            self._buckets[name] = level, now
            return (1 - level) / rate
        self._buckets[name] = level - 1, now
        return 0.0
