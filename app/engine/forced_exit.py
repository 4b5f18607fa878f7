"""A worker that was told to stop ends, whatever does not: a thread that never returns, a task that swallows its cancellation, a call
that blocks. Nothing is lost by it, for nothing that counts is written by a stop; its partitions are another's as soon as it is gone.
"""

import signal
from typing import Final, NoReturn

import faust

from app.engine import exits

STOP_LIMIT_S: Final = 25.0
"""From the signal to the end of the process. Orchestrators kill after 30 s."""


class Worker(faust.Worker):
    """Faust's worker, whose process ends when it has stopped, or when it takes too long to."""

    def _schedule_shutdown(self, signal: signal.Signals) -> None:  # Faust's name
        exits.start_watchdog(STOP_LIMIT_S)
        super()._schedule_shutdown(signal)

    def execute_from_commandline(self) -> NoReturn:
        """Run until told to stop. Does not return, and leaves no thread behind that could hold up the process."""
        try:
            super().execute_from_commandline()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            exits.exit_now(code, "it was told to stop" if code == 0 else "Faust's worker ended it: see its log")
