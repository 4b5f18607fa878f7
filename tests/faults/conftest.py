"""Provides the integration tests' shared stack to the tests of the instruments that need a real broker."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.support.machine.stack")
