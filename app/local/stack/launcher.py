"""Executes one part of the stack: reads its launch file, sets environment, user and limits, and replaces itself by the part.

Supervisor runs `python -I -S launcher.py LAUNCH.json REVISION`. Secrets are therefore in a file of mode 0600 instead of a command line,
and the process id that supervisor watches is the part's. A changed revision shows supervisor that the launch file has changed.

If supervisor dies, the kernel sends the part its stop signal, so that no part runs without a supervisor. Uses the standard library only,
without site-packages.
"""

import ctypes
import json
import os
import pwd
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
OPEN_FILES = 65_536
YIELDING = 5
"""Niceness of a part that yields. It gets a third of the processor time of a part that does not, when both need it."""


def main(launch_file: str) -> None:
    """Replace this process by the part. Never returns."""
    with open(launch_file, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs a third of the start-up time here
        launch = json.load(file)
    environment = {**os.environ, **launch["environment"]}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if launch["user"]:
        account = pwd.getpwnam(launch["user"])
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        environment |= {"HOME": "/", "USER": account.pw_name, "LOGNAME": account.pw_name}
    if launch["yields"]:
        os.nice(YIELDING)
    os.chdir("/")
    supervisor = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, getattr(signal, "SIG" + launch["stop_signal"]))
    if os.getppid() != supervisor:
        sys.exit("the supervisor died before this part started")
    os.execve(launch["argv"][0], launch["argv"], environment)  # noqa: S606 - argv is from the stack's own launch file; no shell is needed


if __name__ == "__main__":
    main(sys.argv[1])
