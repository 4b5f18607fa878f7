"""Fixtures of real parts, for every integration test. The first test that asks for a part starts it, for all of them."""

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
