"""How the workers ended that were in this worker's place before it: kept beside their state, told by the next one's metrics.

A worker that has ended cannot be scraped, and one that ends at once on every start hardly. So the codes are counted in a file. A process
that was killed could not write down anything; that it had begun and did not say how it ended is how the next one knows.
"""

import logging
import time
from pathlib import Path
from typing import Final

import msgspec

from app.engine import metrics

logger = logging.getLogger(__name__)

KILLED: Final = "killed"
"""In place of a code: SIGKILL, out of memory, power cut."""
KILLED_CODE: Final = -1
MAX_REASON: Final = 1_000


class _Content(msgspec.Struct):
    counts: dict[str, int] = {}
    running: bool = False
    last: str = ""
    reason: str = ""
    at: float = 0.0


class ExitHistory:
    """The file of one place. A file that cannot be read or written is only a loss of history: it is logged, and the worker works."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._read()

    def begin(self) -> None:
        """A worker starts in this place: count how the one before it ended, and tell by log and metrics."""
        content = self._content
        if content.running:
            self._add(KILLED, "it was killed: it did not say why it ended")
        if content.last not in ("", "0"):
            logger.warning(
                "the worker before this one in its place ended with code %s: %s", content.last, content.reason
            )
        for code, count in content.counts.items():
            metrics.EXITS.labels(code).inc(count)
        if content.last:
            metrics.LAST_EXIT_CODE.set(KILLED_CODE if content.last == KILLED else int(content.last))
            metrics.LAST_EXIT_TIME.set(content.at)
        content.running = True
        self._write()

    def ended(self, code: int, reason: str) -> None:
        """The worker of now ends."""
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
