"""Queues the works of one connection: bounded, in order, and taken in groups that may share a SQL transaction."""

import threading
from collections import deque
from typing import Final

from app.local.simulator.statements import Work

LENGTH: Final = 500


class WorkQueue:
    """A bounded queue with one producer and one consumer."""

    def __init__(self, length: int = LENGTH) -> None:
        self._works: deque[Work] = deque()
        self._length = length
        self._changed = threading.Condition()
        self._closed = False

    def put(self, work: Work, timeout_s: float) -> bool:
        """Add a work at the end. Returns False if the queue is full for `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._works) < self._length, timeout_s):
                return False
            self._works.append(work)
            self._changed.notify_all()
            return True

    def take(self, most: int) -> list[Work]:
        """Waits for a work and returns up to `most`. A work that is rolled back is returned alone. Returns none once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._works or self._closed)
            taken: list[Work] = []
            while self._works and len(taken) < most and not (taken and self._works[0].rolled_back):
                taken.append(self._works.popleft())
                if taken[0].rolled_back:
                    break
            self._changed.notify_all()
            return taken

    def close(self, *, drop: bool) -> None:
        """End the queue. Waiting works are dropped if `drop` is set; otherwise they can still be taken."""
        with self._changed:
            self._closed = True
            if drop:
                self._works.clear()
            self._changed.notify_all()
