"""The same as lines, for logs and pipes: one of figures every few seconds, one for each alert (up to a limit) and each death."""

from typing import Final

from rich.console import Console

from app.domain.records import AlertRecord
from app.local.demo.demo_state import DemoState
from app.local.demo.view import duration
from app.local.stack.events import Died

EVERY_S: Final = 5.0
MAX_ALERTS: Final = 5
"""Alerts shown in each interval; the rest are counted."""


class PlainOutput:
    """Prints to `console`, or nothing if `quiet`: a live view shows it all."""

    def __init__(self, board: DemoState, console: Console, *, quiet: bool = False) -> None:
        self._board, self._console, self._quiet = board, console, quiet
        self._shown = self._hidden = 0
        self._next_s = EVERY_S

    def restart(self) -> None:
        """The board's clock begins anew."""
        self._next_s = EVERY_S

    def tick(self) -> None:
        """Call it now and then; prints figures when they are due."""
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
        """An alert."""
        if self._shown >= MAX_ALERTS:
            self._hidden += 1
            return
        self._shown += 1
        self._print(
            f"{self._board.elapsed_s:4.0f} s  alert {alert.rule}, customer {alert.customer_id}: {alert.explanation}"
        )

    def died(self, died: Died) -> None:
        """A process that ended, and the end of its log."""
        self._print(
            f"{self._board.elapsed_s:4.0f} s  {died.part} died: {died.reason}; it is started again. Its log ends with:"
        )
        self._print(died.tail)

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
