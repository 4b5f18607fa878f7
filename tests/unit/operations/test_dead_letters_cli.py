"""Tests `bankstream dead-letters` while Kafka is unavailable."""

import subprocess
import sys

import pytest

from app.local.stack.ports import choose


@pytest.mark.parametrize("arguments", [["list"], ["show", "0/1"], ["redrive", "--all"]], ids=lambda found: found[0])
def test_an_unavailable_kafka_is_reported_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    address = f"127.0.0.1:{choose(['kafka'], {}, {})['kafka']}"
    monkeypatch.setenv("BANKSTREAM_KAFKA_BOOTSTRAP_SERVERS", address)
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "dead-letters", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"bankstream: Kafka at {address} failed a request" in done.stderr
    assert "Traceback" not in done.stderr
