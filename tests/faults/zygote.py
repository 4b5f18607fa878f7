"""Forks workers from a process with all imports done: a start costs a tenth of the processor time of `bankstream worker`.

A fork runs `app.runtime.worker.run`, as the real command does, with its own environment. It can be killed like any process. The protocol
is lines of JSON: requests on standard input, and on standard output a response to each and a message for each worker that exits. When
standard input closes or this process dies, the workers die too.
"""

import ctypes
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

LIBRARIES: Final = (
    "app.runtime.worker", "app.engine.faust_hooks", "app.topology.handlers", "sinks.s3", "uvloop",
)  # fmt: skip
"""Modules that are slow to import. Importing them reads no settings, opens nothing and starts no thread, unlike Snowflake's connector."""
PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serves requests until standard input closes."""
    for name in LIBRARIES:
        importlib.import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(f"{threads} threads after the imports: a fork would copy locks that nobody will release")
    ended, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, pids = bytearray(), set[int]()
    _say({"ready": os.getpid()})
    while True:
        readable, _, _ = select.select([0, ended], [], [])
        if ended in readable:
            os.read(ended, 4096)
            _reap(pids)
        if 0 in readable:
            received = os.read(0, 1 << 16)
            if not received:
                break
            requests += received
            while (end := requests.find(b"\n")) >= 0:
                request = json.loads(requests[:end])
                del requests[: end + 1]
                pid = os.fork()
                if pid == 0:
                    _become(request)()
                    return
                pids.add(pid)
                _say({"started": pid, "id": request["id"]})
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _reap(pids: set[int]) -> None:
    while pids:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        pids.discard(pid)
        _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _become(request: dict[str, Any]) -> Callable[[], None]:
    """Turns this fork into a worker, and returns the function to run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(Path(request["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["bankstream", "worker", request["kind"]]
    for hook in request["hooks"]:
        module, _, function = hook.partition(":")
        getattr(importlib.import_module(module), function)()

    def run() -> None:
        importlib.import_module("app.runtime.worker").run(request["kind"])

    return run


def _say(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
