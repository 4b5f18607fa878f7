"""Tests the health checks of the images against real processes: a worker with a running engine, and the warehouse server."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.local.stack.part import Part
from app.runtime import health
from tests.support.machine.stack import StackPool
from tests.support.machine.waiting import eventually

pytestmark = pytest.mark.integration


def test_the_warehouse_server_is_healthy_by_its_own_check_and_is_no_worker(stack_pool: StackPool) -> None:
    stack = stack_pool.get(Part.S3, Part.WAREHOUSE)
    port = stack.environment()["BANKSTREAM_SNOWFLAKE_PORT"]
    assert health.problem("warehouse-server", {"BANKSTREAM_WAREHOUSE_SERVER_PORT": port}) is None
    found = health.problem("worker", {"BANKSTREAM_METRICS_PORT": port})
    assert found is not None
    assert "not as a worker does" in found


def test_an_s3_server_on_the_warehouses_port_is_not_healthy(stack_pool: StackPool) -> None:
    stack = stack_pool.get(Part.S3, Part.WAREHOUSE)
    port = str(urlsplit(stack.environment()["BANKSTREAM_S3_ENDPOINT_URL"]).port)
    assert health.problem("warehouse-server", {"BANKSTREAM_WAREHOUSE_SERVER_PORT": port}) is not None


def test_a_worker_process_is_healthy_until_it_ends(stack_pool: StackPool, tmp_path: Path) -> None:
    stack = stack_pool.get(Part.KAFKA)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {"BANKSTREAM_METRICS_PORT": port, "BANKSTREAM_ENGINE_STATE_DIR": str(tmp_path)}
    environment = {**os.environ, **stack.environment(), **settings}
    command = [sys.executable, "-m", "app.cli"]
    subprocess.run([*command, "provision", "topics"], env=environment, check=True, capture_output=True, timeout=60)
    with subprocess.Popen([*command, "worker", "streams"], env=environment, stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: health.problem("worker", settings) is None, timeout_s=60)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log.decode()
    assert health.problem("worker", settings) is not None
