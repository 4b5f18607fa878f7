"""Processes of this stack that outlived their supervisor: found by a mark in their environment, and ended."""

import signal
from contextlib import suppress
from typing import Final

import psutil

from app.local.stack.errors import StackError
from app.local.stack.supervisor import INSTANCE_VARIABLE

GRACE_S: Final = 10


def find_orphans(instance: str) -> list[psutil.Process]:
    """Processes that belong to the stack with this instance id. The mark is random: nobody else's process has it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(INSTANCE_VARIABLE) == instance:
                found.append(process)
    return found


def end_orphans(instance: str) -> list[str]:
    """Ask every one of them to stop, kill those that do not. The names of those that were ended."""
    leftovers = find_orphans(instance)
    names = []
    for process in leftovers:
        with suppress(psutil.NoSuchProcess):
            names.append(process.name())
            # PostgreSQL takes TERM for "wait until all clients have left"
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(leftovers, timeout=GRACE_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(alive, timeout=GRACE_S)
    if alive:
        ids = ", ".join(str(process.pid) for process in alive)
        raise StackError(f"processes {ids} of an earlier run of this stack do not end. End them and start again.")
    return names
