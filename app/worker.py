"""Running a worker process: logging, event loop, garbage collector, and Faust's own worker around one of the three apps."""

import gc
import importlib
import json
import logging
import logging.config
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

import mode.loop
from prometheus_client import start_http_server

from app.errors import BankstreamError, SettingsError
from app.settings import WorkerSettings, load

KINDS: Final = {"streams": "app.streams", "lake": "app.lake", "warehouse": "app.warehouse"}
"""The kinds of worker, and the module of each one's Faust app (`faust -A <module> worker` runs the same)."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339 UTC), level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def logging_config(settings: WorkerSettings) -> dict[str, Any]:
    """`logging.config.dictConfig`'s argument: everything to standard error, libraries from WARNING up."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": JsonFormatter},
            "text": {"format": "%(asctime)s %(levelname)-8s %(name)s: %(message)s"},
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": settings.log_format, "stream": sys.stderr}
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {name: {"level": settings.log_level} for name in ("app", "agents", "sinks", "tables")},
    }


def run(kind: str) -> None:
    """Run a worker of one kind until SIGTERM or SIGINT. Does not return."""
    settings = load(WorkerSettings)
    logging.config.dictConfig(logging_config(settings))
    logger = logging.getLogger("app.worker")
    try:
        mode.loop.use("uvloop")  # before anything of Faust makes a loop
        _serve_metrics(settings)
        app = importlib.import_module(KINDS[kind]).app
    except BankstreamError as error:
        logger.critical("worker %s does not start: %s", kind, error)
        sys.exit(1)
    gc.collect()
    gc.freeze()  # what is loaded by now lives as long as the process: a quarter more throughput
    logger.info("worker %s starts, process %d", kind, os.getpid())
    worker = app.Worker(
        loglevel=settings.log_level,
        logging_config=logging_config(settings),
        redirect_stdouts=False,
        quiet=True,
        console_port=0,
    )
    worker.execute_from_commandline()


def _serve_metrics(settings: WorkerSettings) -> None:
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port, settings.metrics_host)
        except OSError as error:
            raise SettingsError(
                f"metrics cannot be served on {settings.metrics_host}:{settings.metrics_port} ({error.strerror}). "
                "Set BANKSTREAM_METRICS_PORT to a free port, or to 0 for none."
            ) from error
