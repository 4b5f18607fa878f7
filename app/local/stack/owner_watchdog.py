"""Stops the stack when its owner process exits, so that a killed owner, such as a test run, leaves no processes behind.

The supervisor runs `python -I -S owner_watchdog.py OWNER_PID` as one of its programs. Uses the standard library only.
"""

import os
import select
import signal
import sys


def await_end(owner: int) -> None:
    """Wait until the process with this id has exited."""
    try:
        descriptor = os.pidfd_open(owner)
    except ProcessLookupError:
        pass
    else:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll()


def main(owner: int) -> None:
    """Wait until the owner has exited, then send the supervisor SIGTERM, which stops all parts."""
    await_end(owner)
    os.kill(os.getppid(), signal.SIGTERM)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]))
