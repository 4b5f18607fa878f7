"""What a worker writes to standard error: a line a message for people, or one JSON object a line for programs.

Column values have no place in it. Our own messages carry none; those of other errors may quote what they could not read, so of these only
the type and the way through the code are written.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from app.config.settings import WorkerSettings
from app.errors import discreet

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

TEXT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"


def described(error: BaseException) -> str:
    """The way through the code and the error itself, the first cause first, without what may quote a record."""
    return "\nwhich led to\n".join(
        "".join(traceback.format_tb(one.__traceback__)) + f"{type(one).__module__}.{discreet(one)}"
        for one in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _causes(before)
    yield error


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - the library's name
        """What stands below the line."""
        return described(ei[1]) if ei[1] is not None else ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339 UTC), level, logger, message, worker, process id, and the exception where there is one."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "worker": self._worker,
            "pid": record.process,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = described(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def config(settings: WorkerSettings, worker: str) -> dict[str, Any]:
    """`logging.config.dictConfig`'s argument: everything to standard error, libraries from WARNING up."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter, "worker": worker}, "text": {"()": TextFormatter, "fmt": TEXT}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": settings.log_format, "stream": sys.stderr}
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {name: {"level": settings.log_level} for name in ("app", "agents", "sinks", "tables")},
    }
