"""Measures when the warehouse's ledger first covers a change: holds each change from its arrival in Kafka until the ledger has passed it.

Also counts the warehouse's rows as the rows of the announced objects that the ledger has passed. Counting them by a query would add load
to the warehouse that is being measured.
"""

from array import array
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Final

from app.local.demo.latency import Histogram

MAX_WAITING: Final = 500_000
"""Maximum of changes in all partitions that wait to be covered. At the limit, new changes are not measured but counted in `unmeasured`."""
MAX_OBJECTS: Final = 100_000

TopicPartitionKey = tuple[str, int]
"""Topic and partition."""


class _Queue:
    """Offsets and commit times in two arrays: 16 bytes for each change."""

    __slots__ = ("commits_us", "head", "offsets")

    def __init__(self) -> None:
        self.offsets, self.commits_us, self.head = array("q"), array("q"), 0

    def push(self, offset: int, commit_us: int) -> None:
        self.offsets.append(offset)
        self.commits_us.append(commit_us)

    def compact(self) -> None:
        if self.head > 4096 and self.head * 2 > len(self.offsets):
            del self.offsets[: self.head], self.commits_us[: self.head]
            self.head = 0


class LoadLatency:
    """Records the latencies in `histogram` as the ledger advances."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._queues: dict[TopicPartitionKey, _Queue] = defaultdict(_Queue)
        self._objects: dict[TopicPartitionKey, deque[tuple[int, int]]] = defaultdict(deque)
        self._announced: dict[TopicPartitionKey, int] = {}
        self._covered: dict[TopicPartitionKey, int] = {}
        self.waiting = 0
        self.waiting_objects = 0
        self.unmeasured = 0
        self.loaded_rows = 0

    def changed(self, place: TopicPartitionKey, offset: int, commit_us: int, now_us: int) -> None:
        """Add a change that was read from Kafka. If the ledger has passed it already, it counts as covered at `now_us`."""
        if offset <= self._covered.get(place, -1):
            self._histogram.record(now_us - commit_us)
        elif self.waiting >= MAX_WAITING:
            self.unmeasured += 1
        else:
            self._queues[place].push(offset, commit_us)
            self.waiting += 1

    def announced(self, place: TopicPartitionKey, last_offset: int, rows: int) -> bool:
        """Add an announced object. Returns whether this is its first announcement."""
        if last_offset <= self._announced.get(place, -1):
            return False
        self._announced[place] = last_offset
        objects = self._objects[place]
        if last_offset <= self._covered.get(place, -1):
            self.loaded_rows += rows
        elif objects and self.waiting_objects >= MAX_OBJECTS:
            objects[-1] = (last_offset, objects[-1][1] + rows)  # merged: both count when the later one is loaded
        else:
            objects.append((last_offset, rows))
            self.waiting_objects += 1
        return True

    def ledger(self, positions: Mapping[TopicPartitionKey, int], now_us: int) -> None:
        """Record the ledger's positions, which were read at `now_us`."""
        for place, position in positions.items():
            if position <= self._covered.get(place, -1):
                continue
            self._covered[place] = position
            queue = self._queues.get(place)
            if queue is not None:
                head, offsets = queue.head, queue.offsets
                while head < len(offsets) and offsets[head] <= position:
                    self._histogram.record(now_us - queue.commits_us[head])
                    head += 1
                self.waiting -= head - queue.head
                queue.head = head
                queue.compact()
            objects = self._objects.get(place)
            while objects and objects[0][0] <= position:
                self.loaded_rows += objects.popleft()[1]
                self.waiting_objects -= 1
