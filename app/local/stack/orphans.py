"""Finds and stops processes of this stack whose supervisor is gone. A variable in their environment identifies them."""

import signal
from contextlib import suppress
from typing import Final

import psutil

from app.local.stack.errors import StackError
from app.local.stack.supervisor import INSTANCE_VARIABLE

GRACE_S: Final = 10


def find_orphans(instance: str) -> list[psutil.Process]:
    """Returns the processes of the stack with this instance id. The id is random, so no other process has it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(INSTANCE_VARIABLE) == instance:
                found.append(process)
    return found


def end_orphans(instance: str) -> list[str]:
    """Stop these processes, kill those still alive after GRACE_S, and return the names of all. Raises StackError if one remains."""
    leftovers = find_orphans(instance)
    names = []
    for process in leftovers:
        with suppress(psutil.NoSuchProcess):
            names.append(process.name())
            # on SIGTERM PostgreSQL would wait until all clients have disconnected
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(leftovers, timeout=GRACE_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(alive, timeout=GRACE_S)
    if alive:
        ids = ", ".join(str(process.pid) for process in alive)
        raise StackError(f"processes {ids} of an earlier run of this stack do not exit. Kill them and start again.")
    return names
