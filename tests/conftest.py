"""Fixtures that every test may use."""

pytest_plugins = [
    "tests.support.machine.stack",
    "tests.support.streams.workers",
    "tests.support.warehouse.sinks",
    "tests.support.warehouse.proof",
    "tests.support.streams.continuity",
]
