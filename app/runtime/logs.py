"""Configures logging to standard error: one line of text or one JSON object for each message.

Logs must not contain column values. The application's own messages contain none. Messages of other errors may quote the input, so only
the type and the traceback of those errors are logged.
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
    """Returns the tracebacks and errors, the first cause first, without messages that may quote a record."""
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
    """Formats a record as text."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - the library's name
        """Returns the text below the line: the traceback without column values."""
        return described(ei[1]) if ei[1] is not None else ""


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (RFC 3339 UTC), level, logger, message, worker, process id, and the exception if any."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Returns the JSON text of a record."""
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
    """Returns the argument of `logging.config.dictConfig`: all logs go to standard error, those of libraries from WARNING up."""
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
