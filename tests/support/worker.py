"""Worker processes for tests: started as an operator would, killed as nobody should, ended with the test."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PROJECT = Path(__file__).resolve().parents[2]
FAUST = Path(sys.executable).with_name("faust")


@dataclass
class Workers:
    """Processes with the same settings. Use `with`; what still runs at the end is killed."""

    environment: Mapping[str, str]
    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.alive():
            process.kill()
        for process in self.processes:
            process.wait(10)

    def bankstream(self, kind: str) -> subprocess.Popen[bytes]:
        """`bankstream worker <kind>`."""
        return self._start([sys.executable, "-m", "app.cli", "worker", kind])

    def faust(self, kind: str) -> subprocess.Popen[bytes]:
        """`faust -A app.<kind> worker`."""
        return self._start([str(FAUST), "-A", f"app.{kind}", "worker", "-l", "info"])

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Those that run."""
        return [process for process in self.processes if process.poll() is None]

    def log(self, number: int) -> str:
        """What the n-th process started has written."""
        return self._log(number).read_text(errors="replace")

    def _log(self, number: int) -> Path:
        return self.home / f"worker-{number}.log"

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BANKSTREAM_")}
        settings = {
            "BANKSTREAM_ENGINE_STATE_DIR": str(self.home / "state"),
            "BANKSTREAM_ENGINE_SESSION_TIMEOUT_MS": "6000",
        }
        with self._log(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                command, cwd=PROJECT, env={**kept, **self.environment, **settings}, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process
