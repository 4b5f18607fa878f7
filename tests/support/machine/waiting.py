"""Waits for a condition with a deadline, in place of a sleep of a fixed time."""

import asyncio
import inspect
import time
from collections.abc import Callable

POLL_S = 0.01


def eventually(condition: Callable[[], bool], *, timeout_s: float, message: str = "") -> None:
    """Returns as soon as the condition holds. AssertionError if it does not hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(message or f"the condition did not hold within {timeout_s} s")
        time.sleep(POLL_S)


async def until(condition: Callable[[], object], *, timeout_s: float = 60, message: str = "") -> None:
    """Like `eventually` on an event loop, whose other tasks continue. Awaits the result of the condition if it is awaitable."""
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            while not (await found if inspect.isawaitable(found := condition()) else found):
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        if not deadline.expired():
            raise  # raised by the condition
        raise AssertionError(message or f"the condition did not hold within {timeout_s} s") from None
