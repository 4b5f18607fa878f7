"""The one way a worker dies of an error: at once, with the reason as its last log line, and an exit code that says which kind."""

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
"""Exit codes: our own code failed; another worker owns the partition; Kafka or a sink failed; the log has a gap."""

_histories: list[ExitHistory] = []
"""Of this process: one at most."""


def record_exits(path: Path) -> None:
    """From now on, write down in this file how the process ends. Tells how those before it ended."""
    history = ExitHistory(path)
    history.begin()
    _histories[:] = [history]


def record_exit(code: int, reason: str) -> None:
    """Write down how the process is about to end, if it was asked to remember."""
    for history in _histories:
        history.ended(code, reason)


def exit_code(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, FencedError | ProducerFenced):
        return FENCED
    if isinstance(error, ContinuityError):
        return CONTINUITY
    if isinstance(error, TransactionFailedError | KafkaError | OSError):
        return RETRY
    return DEFECT


def die(error: BaseException, where: str) -> None:
    """End the process without unwinding: no cleanup may commit, acknowledge or announce anything behind the error."""
    code, reason = exit_code(error), discreet(error)
    logger.critical(
        "worker exits with code %d at %s: %s", code, where, reason, exc_info=error if code == DEFECT else None
    )
    exit_now(code, f"{where}: {reason}")


def exit_now(code: int, reason: str) -> NoReturn:
    """End the process now, without waiting for its threads, when the reason is written down."""
    record_exit(code, reason)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start_watchdog(seconds: float) -> None:
    """End the process with RETRY if it is still there after so many seconds, and say where each of its threads was."""
    watch = threading.Timer(seconds, _overdue, [seconds])
    watch.daemon = True
    watch.start()


def _overdue(seconds: float) -> None:
    logger.critical(
        "worker exits with code %d: told to stop, it has not within %.0f s; its threads follow", RETRY, seconds
    )
    faulthandler.dump_traceback(all_threads=True)
    exit_now(RETRY, f"told to stop, it had not within {seconds:.0f} s")
