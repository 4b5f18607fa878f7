"""Fixtures that every test may use."""

pytest_plugins = [
    "tests.support.stack",
    "tests.support.workers",
    "tests.support.sinks",
    "tests.support.proof",
    "tests.support.continuity",
]
