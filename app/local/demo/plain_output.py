"""Prints the demo's progress as lines for logs and pipes: figures every few seconds, alerts up to a limit, and exits of processes."""

from typing import Final

from rich.console import Console

from app.domain.records import AlertRecord
from app.local.demo.demo_state import DemoState
from app.local.demo.view import duration
from app.local.stack.events import Died

EVERY_S: Final = 5.0
MAX_ALERTS: Final = 5
"""Maximum of alerts shown in each interval; the rest are counted."""


class PlainOutput:
    """Prints to `console`. Prints nothing if `quiet`, because then the live view shows the progress."""

    def __init__(self, board: DemoState, console: Console, *, quiet: bool = False) -> None:
        self._board, self._console, self._quiet = board, console, quiet
        self._shown = self._hidden = 0
        self._next_s = EVERY_S

    def restart(self) -> None:
        """Start over after `DemoState.restart_clock`."""
        self._next_s = EVERY_S

    def tick(self) -> None:
        """Print the figures if they are due. Called repeatedly."""
        board = self._board
        if board.resting or board.elapsed_s < self._next_s:
            return
        self._next_s = board.elapsed_s + EVERY_S
        flow = " · ".join(f"{name} {meter.total:,} ({meter.per_second:,.0f}/s)" for name, meter in board.stages.items())
        latency = " · ".join(
            f"commit to {name} p50 {duration(histogram.percentile_us(50))} p99 {duration(histogram.percentile_us(99))}"
            for name, histogram in (
                ("alert", board.commit_to_alert),
                ("S3", board.commit_to_lake),
                ("warehouse", board.commit_to_warehouse),
            )
        )
        more = f" · {self._hidden} more alerts" if self._hidden else ""
        self._print(f"{board.elapsed_s:4.0f} s  {flow}\n        {latency}{more}")
        self._shown = self._hidden = 0

    def alert(self, alert: AlertRecord) -> None:
        """Print an alert, or only count it if the interval has MAX_ALERTS already."""
        if self._shown >= MAX_ALERTS:
            self._hidden += 1
            return
        self._shown += 1
        self._print(
            f"{self._board.elapsed_s:4.0f} s  alert {alert.rule}, customer {alert.customer_id}: {alert.explanation}"
        )

    def died(self, died: Died) -> None:
        """Print a process that exited, and the end of its log."""
        self._print(
            f"{self._board.elapsed_s:4.0f} s  {died.part} died: {died.reason}; it is restarted. Its log ends with:"
        )
        self._print(died.tail)

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
