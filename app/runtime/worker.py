"""Runs a worker process: sets up logging, event loop and garbage collector, then runs one of the three Faust apps."""

import importlib
import logging
import logging.config
import os
import sys
from typing import Final

import mode.loop
from prometheus_client import start_http_server

from app.config.settings import WorkerSettings, load
from app.engine import exits
from app.errors import BankstreamError, SettingsError
from app.runtime import gc_tuning, logs

KINDS: Final = {"streams": "app.streams", "lake": "app.lake", "warehouse": "app.warehouse"}
"""The module of the Faust app of each kind of worker (`faust -A <module> worker` runs the same app)."""


def run(kind: str) -> None:
    """Runs a worker of one kind until SIGTERM or SIGINT. Does not return."""
    settings = load(WorkerSettings)
    logging.config.dictConfig(logs.config(settings, kind))
    logger = logging.getLogger("app.runtime.worker")
    try:
        mode.loop.use("uvloop")  # before Faust creates an event loop
        serve_metrics(settings)
        app = importlib.import_module(KINDS[kind]).app
    except BankstreamError as error:
        logger.critical("worker %s does not start: %s", kind, error)
        sys.exit(1)
    gc_tuning.tune()
    logger.info("worker %s starts, process %d", kind, os.getpid())
    worker = app.Worker(
        loglevel=settings.log_level,
        logging_config=logs.config(settings, kind),
        redirect_stdouts=False,
        quiet=True,
        console_port=0,
    )
    place = app.instance.directory
    exits.record_exits(place.with_name(f"{place.name}.exits.json"))
    worker.execute_from_commandline()


def serve_metrics(settings: WorkerSettings) -> None:
    """Serves this process's Prometheus metrics, unless the port is 0. Raises SettingsError if the port cannot be used."""
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port, settings.metrics_host)
        except OSError as error:
            raise SettingsError(
                f"metrics cannot be served on {settings.metrics_host}:{settings.metrics_port} ({error.strerror}). "
                "Set BANKSTREAM_METRICS_PORT to a free port, or to 0 for none."
            ) from error
