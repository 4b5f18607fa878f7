"""What the packages import directly is declared: what merely came along with something else may go with its next version."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("app", "agents", "tables", "sinks")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> Iterator[tuple[str, str]]:
    """Top-level modules of others, and a file that imports each."""
    for package in PACKAGES:
        for path in (PROJECT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom) and not node.level
                    else []
                )
                for name in names:
                    top = name.partition(".")[0]
                    if top and top not in sys.stdlib_module_names and top not in PACKAGES:
                        yield top, str(path.relative_to(PROJECT))


def test_every_distribution_that_is_imported_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    declared = {
        normal(re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0])
        for requirement in (*project["dependencies"], *(one for extra in extras.values() for one in extra))
    }
    owners = packages_distributions()
    found = dict(imported())
    assert {"faust", "aiokafka", "msgspec"} <= found.keys()
    undeclared = {
        top: where for top, where in found.items() if not {normal(owner) for owner in owners.get(top, [])} & declared
    }
    assert undeclared == {}
