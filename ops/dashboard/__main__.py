"""`python -m ops.dashboard --port N [--owner PID]`: serves the dashboard on loopback until SIGTERM, or until the owner process exits."""

import argparse
import os
import signal
import threading
from pathlib import Path

from streamlit.web import cli

from app.local.stack.owner_watchdog import await_end


def _end_with(owner: int) -> None:
    """Sends SIGTERM to this process when the owner process has exited, for any reason."""
    await_end(owner)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m ops.dashboard", description=__doc__)
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--owner", type=int)
    found = parser.parse_args()
    if found.owner is not None:
        threading.Thread(target=_end_with, args=(found.owner,), daemon=True).start()
    cli.main(["run", str(Path(__file__).with_name("main.py")), "--server.port", str(found.port)])
