"""Waits for a condition with a deadline, instead of sleeping for a time that is always too long or too short."""

import time
from collections.abc import Callable

POLL_S = 0.02


def eventually(condition: Callable[[], bool], *, timeout_s: float, message: str = "") -> None:
    """Return as soon as the condition holds; AssertionError if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(message or f"the condition did not hold within {timeout_s} s")
        time.sleep(POLL_S)
