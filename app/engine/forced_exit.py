"""Ends a worker that was told to stop, even if a thread never returns, a task swallows its cancellation or a call blocks.

Nothing is lost, because a stop writes nothing that correctness depends on. Another worker gets the partitions once the process is gone.
"""

import signal
from typing import Final, NoReturn

import faust

from app.engine import exits

STOP_LIMIT_S: Final = 25.0
"""The longest time from the signal to the end of the process. Orchestrators kill after 30 s."""


class Worker(faust.Worker):
    """Faust's worker; its process ends when the worker has stopped, or after STOP_LIMIT_S."""

    def _schedule_shutdown(self, signal: signal.Signals) -> None:  # Faust's name
        exits.start_watchdog(STOP_LIMIT_S)
        super()._schedule_shutdown(signal)

    def execute_from_commandline(self) -> NoReturn:
        """Run until told to stop. Does not return: it ends the process without waiting for other threads."""
        try:
            super().execute_from_commandline()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            exits.exit_now(code, "it was told to stop" if code == 0 else "Faust's worker ended it: see its log")
