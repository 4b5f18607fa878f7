"""Tests that a restarted worker reports how the previous process ended, and that JSON logs have JSON on every line."""

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.exit_history import KILLED, KILLED_CODE
from app.local.stack.stack import Stack
from app.operations.provision import topics
from app.topology.partition_groups import groups
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually
from tests.support.streams.workers import Workers

pytestmark = pytest.mark.integration

READY_TIMEOUT_S = 120


def metrics(port: str) -> str:
    """The worker's metrics; empty while it does not answer."""
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text
    return ""


def value(text: str, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return None if found is None else float(found[1])


def test_a_restarted_worker_counts_the_kill_of_its_predecessor(kafka_stack: Stack, tmp_path: Path) -> None:
    kafka = settings_of(kafka_stack, KafkaSettings)
    asyncio.run(topics.provision(CATALOGUE, groups(CATALOGUE, kafka), kafka, EngineSettings()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment: Mapping[str, str] = {
        **kafka_stack.environment(), "BANKSTREAM_METRICS_PORT": port, "BANKSTREAM_LOG_FORMAT": "json",
    }  # fmt: skip
    state = tmp_path / "state"
    with Workers(environment, tmp_path) as workers:
        for number in range(2):
            worker = workers.start("streams", BANKSTREAM_ENGINE_STATE_DIR=str(state))
            eventually(
                lambda: value(metrics(port), "bankstream_ready") == 1, timeout_s=READY_TIMEOUT_S, message=workers.logs()
            )
            told = metrics(port)
            if number == 0:
                workers.kill(worker)
        assert workers.stop(worker, timeout_s=60) == 0
    assert value(told, f'bankstream_exits_total{{code="{KILLED}"}}') == 1
    assert value(told, "bankstream_last_exit_code") == KILLED_CODE
    assert (value(told, 'bankstream_restores_total{state="warm"}') or 0) > 0
    history = json.loads((state / "0.exits.json").read_bytes())
    assert history["counts"] == {KILLED: 1, "0": 1}
    lines = [json.loads(line) for log in tmp_path.glob("worker-*.log") for line in log.read_text().splitlines()]
    assert {line["worker"] for line in lines} == {"streams"}
    assert any("worker of this instance ended with code killed" in line["message"] for line in lines)
