"""Tests that every benchmark can be imported. No other test runs them, so a renamed name would be noticed late."""

import importlib

import pytest

from tests.support.paths import PROJECT

BENCHMARKS = sorted(path.stem for path in (PROJECT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")
