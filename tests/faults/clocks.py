"""A process with a wrong wall clock: hooks that a worker runs before anything else. What it measures with monotonic clocks stays right.

Python's `time.time` and `time.time_ns` are shifted, by which all of the application, Faust and the Kafka client tell the time; the
event loop, timeouts and native code use clocks that no operator can set wrong.
"""

import time
from typing import Final

SHIFT_S: Final = 3_600


def ahead() -> None:
    """An hour ahead."""
    _shift(SHIFT_S)


def behind() -> None:
    """An hour behind."""
    _shift(-SHIFT_S)


def _shift(seconds: int) -> None:
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + seconds * 1_000_000_000
