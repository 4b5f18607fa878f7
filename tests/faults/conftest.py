"""The stack that the integration tests share, for tests of the instruments on a real broker."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.support.machine.stack")
