"""Runs the shell blocks of README and docs in the order of the pages, on a stack that the quick start's own commands start and stop.

NOT_RUN has the commands that are not run, with the reasons. tests/docs/test_readme.py tests that every `bankstream` command can be parsed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import requests

from app.local.stack.parts.workers import READY
from app.local.stack.ports import choose
from tests.docs.pages import NAMES, blocks, read
from tests.support.machine.waiting import eventually
from tests.support.paths import PROJECT

QUICKSTART: Final = "docs/QUICKSTART.md"
NOT_RUN: Final = {
    # page: expression of the command, and why
    "README.md": {
        r"make (demo|test)": "tests/e2e/test_demo.py runs the demo; this is the test",
        r"bankstream rebuild .*": "tests/integration/proof/test_rebuild.py does, and takes a minute",
    },
    QUICKSTART: {
        r"make demo": "tests/e2e/test_demo.py does",
        r"make install": "it makes the environment that this test runs in",
    },
    "docs/AIRFLOW.md": {
        r".*": "needs Airflow's own environment; tests/integration/ops/test_airflow.py runs the DAG in it"
    },
    "docs/MUTANTS.md": {
        r"(make mutants|\.venv/bin/mutmut).*": "takes an hour and more, and its results are for a reader to judge"
    },
    "docs/FAULTS.md": {r"make faults.*": "takes hours; tests/faults runs one of them in `make test`"},
    "docs/PROOF.md": {
        r".*--key threshold:.*": "an alert of another bank; tests/integration/proof/test_trace.py traces alerts",
        r".*--table loans .*": "a table of another bank; tests/integration/stack/test_declared_tables.py traces it",
        r"bankstream rebuild .*": "tests/integration/proof/test_rebuild.py does",
    },
    "docs/SNOWFLAKE.md": {
        r".*": "needs an account; tests/unit/sinks/test_snowflake_sql.py parses the files that it names"
    },
}
SERVES: Final = re.compile(r"bankstream (worker \w+|watch)")
"""Commands that run until they are stopped."""
IN_TEXT: Final = ("bankstream stack status", "bankstream settings --all", "bankstream dead-letters list")
"""Commands that are named in sentences. They change nothing."""
LAST: Final = "bankstream stack down --wipe"
COMMAND_TIMEOUT_S: Final = 300
READY_TIMEOUT_S: Final = 90


@dataclass(frozen=True)
class Line:
    """A command and its place."""

    page: str
    line: int
    text: str

    @property
    def command(self) -> str:
        """The command without its comment."""
        return self.text.split(" #")[0].rstrip()

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.command}"

    @property
    def reason(self) -> str | None:
        """The reason why it is not run; None if it is run."""
        found = NOT_RUN.get(self.page, {}).items()
        return next((reason for pattern, reason in found if re.fullmatch(pattern, self.command, re.DOTALL)), None)


def lines() -> list[Line]:
    """Every command of every block. The quick start is first, because it starts what the others need."""
    found = []
    for block in sorted(blocks(), key=lambda one: one.page != QUICKSTART):
        whole = [block.text.strip()] if re.search(r"^(for|while|if)\b", block.text) else block.text.splitlines()
        found += [Line(block.page, block.line + at, text.strip()) for at, text in enumerate(whole) if text.strip()]
    return found


def to_run() -> list[Line]:
    """The commands that are run. A command on several pages is run once."""
    found: dict[str, Line] = {}
    for line in lines():
        if line.reason is None:
            found.setdefault(line.command, line)
    return list(found.values())


class Shell:
    """A shell in the project's directory. Later commands see the variables that a command exports."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._exported = folder / "exported"
        of_make = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")  # of a make that runs this test
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("BANKSTREAM_") and name not in of_make
        }
        kept |= {
            "BANKSTREAM_HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        self._environment = kept
        self._exported.touch()

    def popen(self, command: str, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a command. `make` is the project's, but installs nothing into the current environment."""
        script = (
            f'. "{self._exported}"; make() {{ command make --old-file=install VENV="{sys.prefix}" "$@"; }}\n'
            f'{command}\ncode=$?; export -p > "{self._exported}"; exit $code'
        )
        return subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", script], cwd=PROJECT, env={**self._environment, **variables},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.popen(command)
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return process.returncode, output.decode(errors="replace")

    def serve(self, command: str, folder: Path) -> tuple[int, str]:
        """Exit code and output of a serving command, which is stopped when its metrics say that it is ready."""
        port = choose(["docs"], {}, {})["docs"]
        log = folder / "serving.log"
        process = self.popen(f'exec {command} > "{log}" 2>&1', BANKSTREAM_METRICS_PORT=str(port))
        session = requests.Session()
        session.trust_env = False
        ready = READY if " worker " in command else "bankstream_capture_running 1.0"

        def is_ready() -> bool:
            assert process.poll() is None, f"{command} ended by itself:\n{log.read_text(errors='replace')[-4000:]}"
            try:
                return ready in session.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
            except requests.RequestException:
                return False

        try:
            eventually(is_ready, timeout_s=READY_TIMEOUT_S, message=f"{command} did not get ready")
            process.terminate()
            code = process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return code, log.read_text(errors="replace")


GUARD: Final = """
import sys
from pathlib import Path
from app.local.stack.stack import Stack
sys.stdin.read()
Stack(Path(sys.argv[1])).down(wipe=True)
"""
"""Ends the stack when the test's process closes the pipe, even if it is killed. Otherwise only `stack down` ends a stack."""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bankstream-docs-") as folder:
        path = Path(folder)
        path.chmod(0o711)  # PostgreSQL runs as nobody when the tests run as root
        guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, str(path / "home")],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield path / "home"
        finally:
            guard.communicate(timeout=COMMAND_TIMEOUT_S)
            assert guard.returncode == 0


@pytest.mark.parametrize("page", NOT_RUN)
def test_every_command_that_is_not_run_is_still_in_the_docs(page: str) -> None:
    if page not in NAMES:
        pytest.skip(f"there is no {page}")
    commands = [line.command for line in lines() if line.page == page]
    unused = [one for one in NOT_RUN[page] if not any(re.fullmatch(one, command, re.DOTALL) for command in commands)]
    assert unused == []


def test_most_of_the_commands_are_run() -> None:
    assert len(to_run()) >= 20
    for command in (*IN_TEXT, LAST):
        assert any(f"`{command}`" in read(name) for name in NAMES), command


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(900)
def test_every_command_of_the_docs_runs(home: Path, tmp_path: Path) -> None:
    shell, wrong = Shell(home, tmp_path), []
    for line in to_run():
        began = time.monotonic()
        serves = SERVES.fullmatch(line.command) is not None
        code, output = shell.serve(line.command, tmp_path) if serves else shell.run(line.command)
        print(f"{time.monotonic() - began:5.1f} s  {line}")  # noqa: T201 - shown when it fails
        if code:
            wrong.append(f"{line}\nexit code {code}:\n{output[-2000:]}")
        elif line.command.startswith("curl"):
            answer = json.loads(output)
            if "status" in answer:  # a problem response, RFC 9457
                wrong.append(f"{line}\n{output}")
        assert not wrong or line.page != QUICKSTART, wrong[0]  # no later command would work
    for command in (*IN_TEXT, LAST):
        code, output = shell.run(command)
        if code:
            wrong.append(f"{command}\nexit code {code}:\n{output[-2000:]}")
    assert wrong == []
    assert not home.exists(), "--wipe leaves nothing"
