"""Fixtures of the local stack: real parts in a temporary home, started on first use, shared by the session, stopped at its end.

Fixtures (all session scoped, all the same running stack with more parts added when asked for):

    kafka_stack       Kafka                                     about 2 s when the jars are in the cache; kafka: its settings
    lake_stack        Kafka, S3 and the warehouse
    postgres_stack    PostgreSQL
    backends_stack    everything except the workers, not provisioned

Tests share the stack, so they use unique names for topics, buckets, schemas and databases. A test that kills or stops parts uses a private
stack:
`with private_stack(Part.KAFKA) as stack:`. `settings_of(stack, KafkaSettings)` reads a section of the settings from a stack.
If pytest itself is killed, the stack is stopped by its owner watchdog.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from unittest import mock

import pytest
from pydantic_settings import BaseSettings

from app.config.settings import KafkaSettings
from app.local.stack.part import BACKENDS, Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import Step

SectionT = TypeVar("SectionT", bound=BaseSettings)


def settings_of(stack: Stack | Mapping[str, str], section: type[SectionT], **changes: object) -> SectionT:
    """A section of the settings as a process with the stack's environment would read it, with some fields changed."""
    environment = stack.environment() if isinstance(stack, Stack) else stack
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BANKSTREAM_")}
    with mock.patch.dict(os.environ, {**kept, **environment}, clear=True):
        return section(**changes)  # type: ignore[arg-type]  # pydantic checks them


@contextmanager
def private_stack(
    *parts: Part, steps: Sequence[Step] = (), streams_workers: int = 1, up: bool = True
) -> Iterator[Stack]:
    """A stack with its own home, deleted at the end. Only the given provisioning steps run."""
    home = Path(tempfile.mkdtemp(prefix="bankstream-test-"))
    home.chmod(0o711)  # PostgreSQL runs as nobody when the tests run as root
    stack = Stack(home, parts=parts, steps=steps, streams_workers=streams_workers, owner=os.getpid())
    try:
        if up:
            stack.up()
        yield stack
    finally:
        try:
            stack.down(wipe=True)
        finally:
            shutil.rmtree(home, ignore_errors=True)


class StackPool:
    """One running stack, to which parts are added when tests request them."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def get(self, *parts: Part) -> Stack:
        """A running stack with at least these parts."""
        stack = Stack(self._home, parts=parts, steps=(), owner=os.getpid())
        stack.up()
        return stack


@pytest.fixture(scope="session")
def stack_pool() -> Iterator[StackPool]:
    with private_stack(up=False) as stack:
        yield StackPool(stack.home.path)


@pytest.fixture(scope="session")
def kafka_stack(stack_pool: StackPool) -> Stack:
    return stack_pool.get(Part.KAFKA)


@pytest.fixture
def kafka(kafka_stack: Stack) -> KafkaSettings:
    """The settings for Kafka."""
    return settings_of(kafka_stack, KafkaSettings)


@pytest.fixture(scope="session")
def postgres_stack(stack_pool: StackPool) -> Stack:
    return stack_pool.get(Part.POSTGRES)


@pytest.fixture(scope="session")
def lake_stack(stack_pool: StackPool) -> Stack:
    return stack_pool.get(Part.KAFKA, Part.S3, Part.WAREHOUSE)


@pytest.fixture(scope="session")
def backends_stack(stack_pool: StackPool) -> Stack:
    return stack_pool.get(*BACKENDS)
