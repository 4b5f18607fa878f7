"""Provides fixtures of real parts to all integration tests. The first test that needs a part starts it for all tests."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for module in (
        "tests.support.machine.stack",
        "tests.support.streams.workers",
        "tests.support.streams.continuity",
        "tests.support.warehouse.real_sinks",
        "tests.support.warehouse.proof",
    ):
        config.pluginmanager.import_plugin(module)
