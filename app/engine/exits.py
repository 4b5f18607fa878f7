"""Ends the worker process at once after an error, with the reason as the last log line and an exit code for the kind of error."""

import faulthandler
import logging
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from aiokafka.errors import KafkaError, ProducerFenced

from app.engine.exit_history import ExitHistory
from app.engine.transactional_producer import TransactionFailedError
from app.errors import ContinuityError, FencedError, discreet

logger = logging.getLogger(__name__)

DEFECT, FENCED, RETRY, CONTINUITY = 70, 71, 72, 73
"""Exit codes: a defect in this code; another worker owns the partition; Kafka or a sink failed; the log has a gap."""

_histories: list[ExitHistory] = []
"""The history of this process: at most one."""


def record_exits(path: Path) -> None:
    """Record in this file how the process ends, and report how earlier processes ended."""
    history = ExitHistory(path)
    history.begin()
    _histories[:] = [history]


def record_exit(code: int, reason: str) -> None:
    """Record how the process is about to end, if `record_exits` was called."""
    for history in _histories:
        history.ended(code, reason)


def exit_code(error: BaseException) -> int:
    """Returns the exit code for an error."""
    if isinstance(error, FencedError | ProducerFenced):
        return FENCED
    if isinstance(error, ContinuityError):
        return CONTINUITY
    if isinstance(error, TransactionFailedError | KafkaError | OSError):
        return RETRY
    return DEFECT


def die(error: BaseException, where: str) -> None:
    """End the process without unwinding: no cleanup may commit, acknowledge or publish anything after the error."""
    code, reason = exit_code(error), discreet(error)
    logger.critical(
        "worker exits with code %d at %s: %s", code, where, reason, exc_info=error if code == DEFECT else None
    )
    exit_now(code, f"{where}: {reason}")


def exit_now(code: int, reason: str) -> NoReturn:
    """Record the reason and end the process without waiting for its threads."""
    record_exit(code, reason)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start_watchdog(seconds: float) -> None:
    """End the process with RETRY if it is still running after this many seconds, and print the stack of each thread."""
    watch = threading.Timer(seconds, _overdue, [seconds])
    watch.daemon = True
    watch.start()


def _overdue(seconds: float) -> None:
    logger.critical(
        "worker exits with code %d: it did not stop within %.0f s of being told to stop; stacks of its threads follow",
        RETRY,
        seconds,
    )
    faulthandler.dump_traceback(all_threads=True)
    exit_now(RETRY, f"it did not stop within {seconds:.0f} s of being told to stop")
