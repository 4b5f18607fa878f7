"""Runs an event loop in its own thread, so that a proxy runs independently of the test, for sync and async tests."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar

Answer = TypeVar("Answer")

CALL_TIMEOUT_S = 30


class BackgroundLoop:
    """An event loop in a thread. A context manager, which closes what `enter` opened in reverse order at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="instruments", daemon=True)
        self._opened = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self._opened.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_TIMEOUT_S)
            self._loop.close()

    def enter(self, instrument: AbstractAsyncContextManager[Answer]) -> Answer:
        """Opens an async context manager on the loop."""
        return self.call(self._opened.enter_async_context(instrument))

    def call(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Runs a coroutine on the loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)
