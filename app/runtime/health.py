"""Checks the health of the process in this container. Exit code 0: healthy; 1: not healthy; 2: wrong arguments.

`python -m app.runtime.health worker|watch|warehouse-server`

Docker's health checks run it every few seconds, so it imports the standard library alone and starts quickly.
A worker is healthy once its metrics show that it has joined its group and opened its partitions (a stand-by has none). The watcher is
healthy once it serves metrics: a fault that it finds is not its own. The warehouse server is healthy once it refuses a session without
a token.
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
"""By kind of process: the variable with its port, the HTTP method and path, and the bytes that a correct response contains."""


def problem(kind: str, environment: Mapping[str, str]) -> str | None:
    """Returns the problem of the process of this kind on this machine; None if it is healthy."""
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
    """Returns the exit code. Writes the problem to standard error, which `docker inspect` shows."""
    if len(arguments) != 1 or arguments[0] not in QUESTIONS:
        sys.stderr.write(f"usage: python -m app.runtime.health {'|'.join(QUESTIONS)}\n")
        return 2
    found = problem(arguments[0], os.environ)
    if found:
        sys.stderr.write(f"{found}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
