"""Runs the simulated bank as a child process with the stack's settings, and reads its statistics line by line."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from app.errors import BankstreamError
from app.local.stack.home import os_errors_as_home_errors
from app.local.stack.logs import tail

STOP_TIMEOUT_S: Final = 20.0
FRAUD_RATE: Final = 0.01
"""Frauds begun per transaction. It is higher than the simulator's default, so that a short demo shows some."""


class SimulatorProcessError(BankstreamError):
    """The simulated bank exited unexpectedly."""


class SimulatorProcess:
    """One run of `bankstream simulate`. It has its own session, so that Ctrl-C reaches only the demo, which stops it."""

    def __init__(
        self, environment: Mapping[str, str], log: Path, rate: int, seed: int | None, *, seconds: float | None = None
    ) -> None:
        """With `seconds` the bank exits after this time, which is not an error."""
        self._environment, self._log, self._endless = environment, log, seconds is None
        self._arguments = ["simulate", "--rate", str(rate), "--fraud-rate", str(FRAUD_RATE), "--json"]
        if seed is not None:
            self._arguments += ["--seed", str(seed)]
        if seconds is not None:
            self._arguments += ["--seconds", str(seconds)]
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the process."""
        with os_errors_as_home_errors(self._log), self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.cli", *self._arguments,
                env={**os.environ, **self._environment}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=errors, start_new_session=True,
            )  # fmt: skip

    async def run(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Pass statistics to `tell` until the process exits. Raises SimulatorProcessError if the exit was unexpected."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        async for line in process.stdout:
            with contextlib.suppress(msgspec.DecodeError):
                found = msgspec.json.decode(line)
                if isinstance(found, dict):
                    tell(found)
        code = await process.wait()
        if not self._stopping and (self._endless or code):
            raise SimulatorProcessError(
                f"the simulated bank exited unexpectedly with exit code {code}. Its log {self._log} ends with:\n{tail(self._log)}"
            )

    async def stop(self) -> None:
        """Stop the process after its current transaction. It is killed after STOP_TIMEOUT_S; PostgreSQL then rolls back."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def kill(self) -> None:
        """Kill the process at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
