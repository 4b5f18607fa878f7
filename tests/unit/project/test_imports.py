"""Tests that importing a module has no effect on other modules, and reads neither the environment nor files.
Unit tests start nothing."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import PROJECT

IMPORT_ALL = """
import importlib, pkgutil, sys
for package in ("app", "agents", "tables", "sinks"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__") and found.name not in sys.argv[1:]:
            importlib.import_module(found.name)
print([name for name, module in sys.modules.items() if module is None])
"""
ROOTS = ("app.streams", "app.lake", "app.warehouse")
"""Each creates its Faust app on import, because `faust -A app.streams worker` needs that."""
IMPORT_UNIT_TESTS = """
import importlib, importlib.util, pkgutil, sys
names = ["tests.conftest"] if importlib.util.find_spec("tests.conftest") else []
for package in ("tests.unit", "tests.agents"):
    names += [found.name for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + ".")]
for name in names:
    for plugin in getattr(importlib.import_module(name), "pytest_plugins", ()):
        importlib.import_module(plugin)
print(len(names) > 50, "tests.support.machine.stack" in sys.modules)
"""


def test_no_import_hides_a_module_from_all_others() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_no_module_but_a_root_reads_a_setting_or_a_file_when_it_is_imported(tmp_path: Path) -> None:
    unusable = {
        "BANKSTREAM_TABLES_FILE": str(tmp_path / "missing.toml"),
        "BANKSTREAM_RULES_FILE": str(tmp_path / "missing.toml"),
        "BANKSTREAM_TOPIC_PARTITIONS": "none",
        "BANKSTREAM_ENGINE_LINGER_MS": "none",
        "BANKSTREAM_LOG_LEVEL": "none",
        "BANKSTREAM_API_PORT": "none",
        "BANKSTREAM_SNOWFLAKE_PORT": "none",
    }
    command = [sys.executable, "-c", IMPORT_ALL, *ROOTS]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **unusable}
    )
    assert (done.returncode, done.stderr) == (0, "")


WORKER = """
import sys
import app.topology.handlers, app.web.service, ops.dashboard.data, app.local.demo.polls
print(sorted(name for name in sys.modules if name.partition(".")[0] == "snowflake"))
"""


def test_a_process_that_may_read_the_warehouse_starts_without_its_client() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_unit_tests_import_nothing_that_starts_a_stack() -> None:
    command = [sys.executable, "-c", IMPORT_UNIT_TESTS]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "True False"
