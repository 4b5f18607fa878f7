"""Defines a part of the stack: how to prepare it, what to launch, and how to check that it is ready."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from app.local.stack.errors import StackError
from app.local.stack.home import Home, Secrets, State


class Part(StrEnum):
    """The parts that a stack can have. The value is the name in commands, logs and messages."""

    POSTGRES = "postgres"
    KAFKA = "kafka"
    CONNECT = "connect"
    S3 = "s3"
    WAREHOUSE = "warehouse"
    STREAMS = "streams"
    LAKE = "lake"
    LOADER = "warehouse-loader"
    WATCH = "capture-watch"


BACKENDS = frozenset({Part.POSTGRES, Part.KAFKA, Part.CONNECT, Part.S3, Part.WAREHOUSE})
"""The databases, brokers and stores, which a deployment usually has already."""
WORKERS = frozenset({Part.STREAMS, Part.LAKE, Part.LOADER, Part.WATCH})
"""The processes of bankstream itself."""


class NotReadyError(StackError):
    """The part is not ready yet; the caller checks again later."""


@dataclass(frozen=True, slots=True)
class Context:
    """The stack that a part belongs to: its paths, state, passwords and settings."""

    home: Home
    state: State
    secrets: Secrets
    cache: Path
    environment: Mapping[str, str] = field(repr=False)
    """The settings of the whole stack, as environment variables."""

    def port(self, name: str) -> int:
        """Returns the loopback port with this name."""
        return self.state.ports[name]


@dataclass(frozen=True, slots=True)
class Launch:
    """A process that the supervisor runs."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    """Run as this user; only for a stack that runs as root."""
    stop_signal: Literal["TERM", "INT"] = "TERM"
    stop_wait_s: int = 30
    """The process is killed if it is still alive this long after its stop signal."""
    yields: bool = False
    """Run at a lower priority, so that the parts between a payment and its alert get processor time first."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One part: the ports that it uses, and its four steps in the order in which they are called."""

    part: Part
    ports: tuple[str, ...]
    prepare: Callable[[Context], None]
    """Create the data directories and the configuration. Called when the part does not run. Idempotent."""
    launch: Callable[[Context], Launch]
    check: Callable[[Context], None]
    """Returns if the part is ready, raises NotReadyError otherwise. A call takes a few seconds at most."""
    stopped: Callable[[Context], None] = lambda _context: None
    """Called after a clean stop."""
    needs: frozenset[Part] = frozenset()
    """Parts without which this one cannot work."""
