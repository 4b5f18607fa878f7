"""Runs the dashboard of ops/dashboard as a child process on a free loopback port. It exits when the demo does, even if that is killed."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.local.stack.home import os_errors_as_home_errors
from app.local.stack.ports import choose

PROJECT: Final = Path(__file__).resolve().parents[3]
STOP_TIMEOUT_S: Final = 5.0
NEEDED: Final = ("BANKSTREAM_SNOWFLAKE_", "BANKSTREAM_DASHBOARD_")
"""Prefixes of the settings that the dashboard gets. It gets no other secrets of the stack."""


class Dashboard:
    """One run of the dashboard; an object is used once. Call `missing` before `start`."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """Returns a message about what the dashboard lacks on this machine and what to do; None if it can run."""
        if not (PROJECT / "ops" / "dashboard" / "main.py").is_file():
            return "no dashboard: it is in the repository, not in the installed package. Run the demo from a checkout to get it."
        if importlib.util.find_spec("streamlit") is None:
            return "no dashboard: Streamlit is not installed. Run `pip install -r requirements/dashboard.txt`, or `make install`."
        return None

    def start(self) -> str:
        """Start the process and return its URL. It accepts requests a moment later."""
        port = choose(["dashboard"], {}, {})["dashboard"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BANKSTREAM_")}
        given = {name: value for name, value in {**os.environ, **self._environment}.items() if name.startswith(NEEDED)}
        command = [sys.executable, "-m", "ops.dashboard", "--port", str(port), "--owner", str(os.getpid())]
        with os_errors_as_home_errors(self._log), self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=PROJECT, env=inherited | given, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )  # fmt: skip
        return f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """Stop the process. It is killed after STOP_TIMEOUT_S."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
