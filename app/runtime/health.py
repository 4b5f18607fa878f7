"""Checks that the process in this container answers. Exit code 0: it does; 1: it does not.

`python -m app.runtime.health worker|watch|warehouse-server`

For Docker's health checks, which run it every few seconds: it needs the standard library alone, so that asking costs next to nothing.
A worker is healthy once it has joined its group and opened its partitions (a stand-by has none), as its metrics say; the watcher
as soon as it serves any, for what it finds is not its own illness; the warehouse server once it refuses a session without a token.
"""

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final

TIMEOUT_S: Final = 4
QUESTIONS: Final = {
    "worker": ("BANKSTREAM_METRICS_PORT", "GET", "/metrics", b"\nbankstream_open_partitions{"),
    "watch": ("BANKSTREAM_METRICS_PORT", "GET", "/metrics", b"\nbankstream_capture_running "),
    "warehouse-server": ("BANKSTREAM_WAREHOUSE_SERVER_PORT", "POST", "/session/heartbeat", b"390104"),
}
"""By kind of process: the variable with its port, what to ask, and what a right answer contains."""


def problem(kind: str, environment: Mapping[str, str]) -> str | None:
    """What is wrong with the process of this kind on this machine; None if it answers as it should."""
    variable, method, path, expected = QUESTIONS[kind]
    port = environment.get(variable, "0")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return f"{variable} is {port!r}: set it to the port to ask"
    connection = HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body=b"{}" if method == "POST" else None)
        answer = connection.getresponse().read()
    except (OSError, HTTPException) as error:
        return f"no answer on port {port}: {error}"
    finally:
        connection.close()
    return None if expected in answer else f"port {port} answers, but not as a {kind} does"


def main(arguments: list[str]) -> int:
    """The exit code; what is wrong goes to standard error, which `docker inspect` shows."""
    if len(arguments) != 1 or arguments[0] not in QUESTIONS:
        sys.stderr.write(f"usage: python -m app.runtime.health {'|'.join(QUESTIONS)}\n")
        return 2
    found = problem(arguments[0], os.environ)
    if found:
        sys.stderr.write(f"{found}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
