"""Runs the examples in docstrings."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest


def with_examples() -> Iterator[str]:
    for package in ("app", "agents", "tables", "sinks", "benchmarks"):
        try:
            paths = importlib.import_module(package).__path__
        except ModuleNotFoundError:
            assert package == "benchmarks"  # benchmarks are in no wheel
            continue
        for found in pkgutil.walk_packages(paths, f"{package}."):
            spec = found.module_finder.find_spec(found.name, None)
            assert spec is not None
            assert spec.origin is not None
            if ">>> " in Path(spec.origin).read_text(encoding="utf-8"):
                yield found.name


@pytest.mark.parametrize("name", list(with_examples()))
def test_the_examples_of(name: str) -> None:
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted > 0
    assert done.failed == 0
