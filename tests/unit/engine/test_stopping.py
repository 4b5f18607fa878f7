"""Tests that a worker's process exits after a stop request, even if a thread or the shutdown blocks."""

import subprocess
import sys
import textwrap
from pathlib import Path

import faust
import pytest

from app.engine.exits import RETRY
from app.engine.forced_exit import STOP_LIMIT_S, Worker

ORCHESTRATORS_PATIENCE_S = 30
DEADLINE_S = 60


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process, which must exit by itself."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "0.exits.json")],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def test_a_thread_that_never_ends_does_not_delay_the_exit(tmp_path: Path) -> None:
    ended = run(
        """
        import pathlib, sys, threading
        from app.engine import exits
        exits.record_exits(pathlib.Path(sys.argv[1]))
        threading.Thread(target=threading.Event().wait).start()
        exits.exit_now(0, "it was told to stop")
        """,
        tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert "told to stop" in (tmp_path / "0.exits.json").read_text()


def test_a_stop_that_hangs_exits_with_retry_and_logs_where(tmp_path: Path) -> None:
    ended = run(
        """
        import logging, pathlib, sys, threading
        from app.engine import exits
        logging.basicConfig()
        exits.record_exits(pathlib.Path(sys.argv[1]))
        exits.start_watchdog(0.2)
        def never_stops(): threading.Event().wait()
        never_stops()
        """,
        tmp_path,
    )
    assert ended.returncode == RETRY, ended.stderr
    assert "it did not stop within" in ended.stderr
    assert "in never_stops" in ended.stderr
    assert "told to stop" in (tmp_path / "0.exits.json").read_text()


def test_a_worker_of_any_kind_is_watched_from_the_signal_on(tmp_path: Path) -> None:
    ended = run(
        """
        import asyncio, os, signal, faust, mode
        from app.engine import forced_exit
        forced_exit.STOP_LIMIT_S = 0.5
        class Stuck(mode.Service):
            async def on_started(self):
                os.kill(os.getpid(), signal.SIGTERM)
            async def on_stop(self):
                await asyncio.Event().wait()
        forced_exit.Worker(faust.App("stuck", store="memory://"), Stuck(), loglevel="ERROR", quiet=True).execute_from_commandline()
        """,
        tmp_path,
    )
    assert ended.returncode == RETRY, ended.stderr


def test_a_process_that_ends_by_itself_does_not_wait_for_the_limit(tmp_path: Path) -> None:
    ended = run("from app.engine import exits; exits.start_watchdog(20)", tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (None, 0, "it was told to stop"),
        (0, 0, "it was told to stop"),
        (3, 3, "Faust's worker ended it: see its log"),
        ("what went wrong", 1, "Faust's worker ended it: see its log"),
    ],
)
def test_the_process_ends_with_the_code_of_fausts_worker(
    said: object, code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[tuple[int, str]] = []

    def stopped(_: faust.Worker) -> None:
        raise SystemExit(said)

    monkeypatch.setattr("faust.Worker.execute_from_commandline", stopped)
    monkeypatch.setattr("app.engine.exits.exit_now", lambda *end: ends.append(end))
    Worker.__new__(Worker).execute_from_commandline()
    assert ends == [(code, reason)]


def test_the_stop_limit_is_below_the_grace_period_of_orchestrators() -> None:
    assert STOP_LIMIT_S < ORCHESTRATORS_PATIENCE_S
