"""Shifts the wall clock of a worker process with hooks that run before its own code. Monotonic clocks stay correct.

Python's `time.time` and `time.time_ns` are shifted; the application, Faust and the Kafka client read the time from them. The event loop,
timeouts and native code use clocks that an operator cannot set.
"""

import time
from typing import Final

SHIFT_S: Final = 3_600


def ahead() -> None:
    """Sets the clock an hour ahead."""
    _shift(SHIFT_S)


def behind() -> None:
    """Sets the clock an hour behind."""
    _shift(-SHIFT_S)


def _shift(seconds: int) -> None:
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + seconds * 1_000_000_000
