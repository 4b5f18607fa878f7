"""Runs the tests of the native library on a build in which undefined behaviour ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.native import build
from tests.support.paths import PROJECT


@pytest.mark.slow
def test_the_library_has_no_undefined_behaviour(tmp_path: Path) -> None:
    library = build.build(tmp_path, sanitize=True)
    tests = ["tests/agents/test_native.py", "tests/unit/native/test_history.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=PROJECT, env={**os.environ, "BANKSTREAM_TEST_LIBRARY": str(library)}, capture_output=True, text=True, check=False,
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5_000:]
