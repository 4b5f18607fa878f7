"""Tests that pyproject.toml declares the imported packages in the part that is installed where the code runs, and no unused ones.
All of them are pinned with hashes."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from typing import Any, Final

import pytest

from tests.support.paths import PROJECT

PYPROJECT: Final[dict[str, Any]] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
METADATA: Final[dict[str, Any]] = PYPROJECT["project"]
OURS: Final = frozenset({"app", "agents", "tables", "sinks", "ops", "tests", "benchmarks"})
CODE: Final = (
    # code, subdirectories that belong to another row, and the extras that are installed where the code runs
    (("agents", "tables", "sinks", "app"), ("app/local/stack", "app/operations/dbt/process.py"), ()),
    (("app/operations/dbt/process.py",), (), ("dbt",)),
    (("app/local/stack",), (), ("local", "warehouse")),
    (("ops/dashboard",), (), ("dashboard",)),
    (("tests", "benchmarks"), (), ("local", "warehouse", "dashboard", "dbt", "dev")),
)


def imported(code: tuple[str, ...], without: tuple[str, ...] = ()) -> dict[str, str]:
    """The imported third-party top-level packages, each with a file that imports it."""
    places = [PROJECT / one for one in code]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*.py"))]
    kept = [path for path in files if not any(path.is_relative_to(PROJECT / other) for other in without)]
    return {
        name.partition(".")[0]: str(path.relative_to(PROJECT))
        for path in kept
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _names(node)
        if name.partition(".")[0] not in OURS | sys.stdlib_module_names
    }


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [node.module]
    return []


def normal(requirement: str) -> str:
    """The distribution's name, normalised as in registries."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def declared(extras: tuple[str, ...]) -> set[str]:
    """The distributions that the project and these extras require."""
    asked = [*METADATA["dependencies"], *(one for extra in extras for one in METADATA["optional-dependencies"][extra])]
    return {normal(one) for one in asked}


def undeclared(packages: dict[str, str], asked: set[str]) -> list[str]:
    """The imported packages of distributions that are not required."""
    known = packages_distributions()
    return [f"{name} ({place})" for name, place in packages.items() if not {*map(normal, known.get(name, ()))} & asked]


@pytest.mark.parametrize(("code", "without", "extras"), CODE, ids=lambda found: "-".join(found) or "-")
def test_what_is_imported_is_declared(code: tuple[str, ...], without: tuple[str, ...], extras: tuple[str, ...]) -> None:
    found = imported(code, without)
    assert found
    assert undeclared(found, declared(extras)) == []


def test_an_undeclared_transitive_package_is_found() -> None:
    assert undeclared({"yarl": "x.py", "msgspec": "y.py"}, declared(())) == ["yarl (x.py)"]
    assert undeclared({"pytest": "x.py"}, declared(())) == ["pytest (x.py)"]


def idle(asked: set[str], packages: Iterable[str], text: str) -> list[str]:
    """The required distributions that are not imported and have no comment that says who needs them."""
    known = packages_distributions()
    used = {normal(one) for name in packages for one in known.get(name, ())}
    explained = {normal(found[1]) for found in re.finditer(r'^ +"([^"]+)",  # \S', text, re.MULTILINE)}
    return sorted(asked - used - explained)


def test_what_is_declared_is_imported_or_says_who_needs_it() -> None:
    everywhere = imported((*OURS, "hatch_build.py"))
    asked = declared(tuple(METADATA["optional-dependencies"]))
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert idle(asked, everywhere, text) == []
    assert idle({"msgspec", "yarl"}, everywhere, text) == ["yarl"]
    assert idle({"uvloop"}, everywhere, text.replace("# mode", "")) == ["uvloop"]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("runtime", ()),
        ("warehouse", ("warehouse",)),
        ("dbt", ("dbt",)),
        ("dashboard", ("dashboard",)),
        ("dev", ("local", "warehouse", "dashboard", "dbt", "dev")),
    ],
)
def test_every_requirement_of_a_lock_is_pinned_with_hashes(lock: str, extras: tuple[str, ...]) -> None:
    text = (PROJECT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    loose = [line for line in lines if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert loose == []
    assert declared(extras) - {normal(line) for line in lines} - {"bankstream"} == set()


def test_a_wheel_is_built_with_the_same_tools_everywhere() -> None:
    """In an isolated build, in images, and on a developer's machine."""
    needed = PYPROJECT["build-system"]["requires"]
    lines = (PROJECT / "requirements/build.in").read_text(encoding="utf-8").splitlines()
    assert needed == [line for line in lines if not line.startswith("#")]
    assert set(needed) <= set(METADATA["optional-dependencies"]["dev"])
