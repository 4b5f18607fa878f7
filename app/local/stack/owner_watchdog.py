"""Ends the stack when the process that owns it is gone: for tests and other callers that may be killed before they clean up.

The supervisor runs `python -I -S leash.py OWNER_PID` beside the parts. Standard library only.
"""

import os
import select
import signal
import sys


def await_end(owner: int) -> None:
    """Return when there is no process of this id, however it ended."""
    try:
        descriptor = os.pidfd_open(owner)
    except ProcessLookupError:
        pass
    else:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll()


def main(owner: int) -> None:
    """Wait for the owner's end, then ask the supervisor to stop everything."""
    await_end(owner)
    os.kill(os.getppid(), signal.SIGTERM)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]))
