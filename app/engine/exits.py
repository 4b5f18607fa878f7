"""The one way a worker dies of an error: at once, with the reason as its last log line, and an exit code that says which kind."""

import logging
import os
import sys

from app.engine.transactions import TransactionFailedError
from app.errors import ContinuityError, FencedError

logger = logging.getLogger(__name__)

DEFECT, FENCED, RETRY, CONTINUITY = 70, 71, 72, 73
"""Exit codes: our own code failed; another worker owns the partition; Kafka or a sink failed; the log has a gap."""


def exit_code(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, FencedError):
        return FENCED
    if isinstance(error, ContinuityError):
        return CONTINUITY
    if isinstance(error, TransactionFailedError | OSError):
        return RETRY
    return DEFECT


def die(error: BaseException, where: str) -> None:
    """End the process without unwinding: no cleanup may commit, acknowledge or announce anything behind the error."""
    code = exit_code(error)
    logger.critical(
        "worker exits with code %d at %s: %s", code, where, error, exc_info=error if code == DEFECT else None
    )
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
