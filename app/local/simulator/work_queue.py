"""The works that wait for one connection: bounded, in order, and taken several at a time when they may share a SQL transaction."""

import threading
from collections import deque
from typing import Final

from app.local.simulator.statements import Work

LENGTH: Final = 500


class WorkQueue:
    """One producer, one consumer."""

    def __init__(self, length: int = LENGTH) -> None:
        self._works: deque[Work] = deque()
        self._length = length
        self._changed = threading.Condition()
        self._closed = False

    def put(self, work: Work, timeout_s: float) -> bool:
        """Add one at the end; False when the line stays full for so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._works) < self._length, timeout_s):
                return False
            self._works.append(work)
            self._changed.notify_all()
            return True

    def take(self, most: int) -> list[Work]:
        """The next works, one at least, as soon as there is one; none at the end. One that is rolled back comes alone."""
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
        """Nothing more comes. What waits is dropped or still done."""
        with self._changed:
            self._closed = True
            if drop:
                self._works.clear()
            self._changed.notify_all()
