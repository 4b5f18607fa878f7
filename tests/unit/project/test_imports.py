"""Importing a module changes nothing for others: what a process hides from itself, it hides when it runs."""

import subprocess
import sys

IMPORT_ALL = """
import importlib, pkgutil, sys
for package in ("app", "agents", "tables", "sinks"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
print([name for name, module in sys.modules.items() if module is None])
"""


def test_no_import_hides_a_module_from_all_others() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
