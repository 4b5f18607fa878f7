"""Tests the dbt process that is started in advance: it builds on request, and ends on request or with its caller."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.operations.dbt.build import PROJECT, WarehouseModelsError, prepared
from app.operations.dbt.process import ABANDONED
from tests.support.machine.waiting import eventually

pytestmark = pytest.mark.integration

NOBODY_THERE = {
    "BANKSTREAM_SNOWFLAKE_HOST": "127.0.0.1",
    "BANKSTREAM_SNOWFLAKE_PORT": "1",
    "BANKSTREAM_SNOWFLAKE_PROTOCOL": "http",
    "BANKSTREAM_SNOWFLAKE_PASSWORD": "none",
}


def of_dbt() -> set[int]:
    return {
        process.pid
        for process in psutil.Process().children()
        if "app.operations.dbt.process" in " ".join(process.cmdline())
    }


def test_a_process_that_gets_no_build_request_is_ended(tmp_path: Path) -> None:
    with prepared({**NOBODY_THERE, "BANKSTREAM_HOME": str(tmp_path)}):
        (pid,) = of_dbt()
    assert not psutil.pid_exists(pid)
    with prepared({**NOBODY_THERE, "BANKSTREAM_HOME": str(tmp_path)}):
        assert len(of_dbt()) == 1, "the first one has left nothing that keeps a second from starting"


def test_the_process_ends_with_its_caller() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.operations.dbt.process", "--"], stdin=subprocess.PIPE, cwd=PROJECT
    )
    try:
        process.communicate(timeout=60)  # closes its input, as at the end of the caller
    finally:
        process.kill()
    assert process.returncode == ABANDONED


@pytest.mark.slow
def test_a_project_that_cannot_be_read_is_a_failure_that_says_why(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: broken\nversion: '1.0'\nprofile: bankstream\n")
    (project / "profiles.yml").write_text((PROJECT / "profiles.yml").read_text())
    (project / "models" / "one.sql").write_text("select * from {{ ref('nowhere') }}")
    with prepared({**NOBODY_THERE, "BANKSTREAM_HOME": str(tmp_path)}, project=project) as go:
        with pytest.raises(WarehouseModelsError, match="depends on a node named 'nowhere'"):
            go()
        eventually(lambda: not of_dbt(), timeout_s=10)
