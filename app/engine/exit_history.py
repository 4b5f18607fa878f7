"""Counts how earlier workers of this instance ended, in a file beside their state, and exports the counts as metrics.

Prometheus cannot scrape a worker that has ended, and rarely one that ends at once on every start. So the next worker exports the exit
codes. A killed process cannot record its end; the next worker finds the file still marked as running and counts a kill.
"""

import logging
import time
from pathlib import Path
from typing import Final

import msgspec

from app.engine import metrics

logger = logging.getLogger(__name__)

KILLED: Final = "killed"
"""Used instead of an exit code: SIGKILL, out of memory, power cut."""
KILLED_CODE: Final = -1
MAX_REASON: Final = 1_000


class _Content(msgspec.Struct):
    counts: dict[str, int] = {}
    running: bool = False
    last: str = ""
    reason: str = ""
    at: float = 0.0


class ExitHistory:
    """The file of one instance. If it cannot be read or written, only history is lost: this is logged and the worker continues."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._read()

    def begin(self) -> None:
        """Record the start of a worker: count a kill if the previous one was killed, and report its end in log and metrics."""
        content = self._content
        if content.running:
            self._add(KILLED, "it was killed before it could record a reason")
        if content.last not in ("", "0"):
            logger.warning("the previous worker of this instance ended with code %s: %s", content.last, content.reason)
        for code, count in content.counts.items():
            metrics.EXITS.labels(code).inc(count)
        if content.last:
            metrics.LAST_EXIT_CODE.set(KILLED_CODE if content.last == KILLED else int(content.last))
            metrics.LAST_EXIT_TIME.set(content.at)
        content.running = True
        self._write()

    def ended(self, code: int, reason: str) -> None:
        """Record how the current worker ends."""
        self._add(str(code), reason[:MAX_REASON])
        self._write()

    def _add(self, code: str, reason: str) -> None:
        content = self._content
        content.counts[code] = content.counts.get(code, 0) + 1
        content.last, content.reason, content.at, content.running = code, reason, time.time(), False

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return _Content()
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("the history of exits %s cannot be read, a new one is begun: %s", self._path, error)
            return _Content()

    def _write(self) -> None:
        unfinished = self._path.with_suffix(".new")
        try:
            unfinished.write_bytes(msgspec.json.encode(self._content))
            unfinished.replace(self._path)
        except OSError as error:
            logger.warning("the history of exits %s cannot be written: %s", self._path, error)
