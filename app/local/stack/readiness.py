"""Waits until a process of the stack is ready. The error of a process that fails says why."""

import re
import shutil
import time
from collections.abc import Callable
from typing import Final

from app.local.stack.errors import PartFailedError
from app.local.stack.home import Home
from app.local.stack.logs import tail
from app.local.stack.part import Context, Definition, NotReadyError
from app.local.stack.supervisor import ProcessInfo, Supervisor

POLL_S: Final = 0.05
SUPERVISOR_POLL_S: Final = 0.3
DEATHS: Final = 3
"""A part that exits this often before it is ready is taken as failed."""
SUPERVISOR_LINES: Final = 1_000
LITTLE_SPACE_BYTES: Final = 64 << 20


def await_ready(
    name: str,
    definition: Definition,
    context: Context,
    supervisor: Supervisor,
    *,
    timeout_s: float,
    check_cancelled: Callable[[], None] = lambda: None,
) -> None:
    """Poll the process until it is ready. Raises PartFailedError with the end of its log if it exits or takes too long."""
    deadline = time.monotonic() + timeout_s
    deaths: set[int] = set()
    looked = 0.0
    problem = "none yet"
    while True:
        check_cancelled()
        if time.monotonic() - looked >= SUPERVISOR_POLL_S:
            looked = time.monotonic()
            _watch(context, supervisor.processes()[name], deaths)
        try:
            definition.check(context)
        except NotReadyError as error:
            problem = str(error)
        else:
            return
        if time.monotonic() > deadline:
            raise failed(context, name, f"was not ready after {timeout_s:.0f} s (last check: {problem})")
        time.sleep(POLL_S)


def _watch(context: Context, process: ProcessInfo, deaths: set[int]) -> None:
    if process.state == "BACKOFF" or (process.state == "STARTING" and process.stopped):
        deaths.add(process.stopped)
    if process.given_up or len(deaths) >= DEATHS or process.state == "STOPPED":
        raise failed(context, process.name, f"exited while it was starting ({ending(process, context.home)})")


def ending(process: ProcessInfo, home: Home) -> str:
    """Returns how a process exited, as text for a message: `exit status 1`, `terminated by SIGKILL`.

    Supervisor's state has neither the signal nor the exit status of a process that had just started. Only its log has them.
    """
    if process.state == "STOPPED":
        return "it was stopped"
    said = re.findall(rf"exited: {re.escape(process.name)} \((.+?);", tail(home.log("supervisord"), SUPERVISOR_LINES))
    return said[-1] if said else process.spawn_error or f"exit status {process.exit_status}"


def failed(context: Context, name: str, problem: str) -> PartFailedError:
    """Returns the error for a part, with the end of its log, and with a note if the disk is full."""
    log = context.home.log(name)
    if shutil.disk_usage(context.home.path).free < LITTLE_SPACE_BYTES:
        problem += f"; the disk of {context.home.path} is full: free some space"
    return PartFailedError(name, problem, log, tail(log))
