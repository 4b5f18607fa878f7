"""What a part of the stack is: how to prepare it, what to launch, and how to ask it whether it is ready."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from app.local.stack.errors import StackError
from app.local.stack.home import Home, Secrets, State


class Part(StrEnum):
    """The parts that a stack can have. Its text is the name in commands, logs and messages."""

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
"""What an organisation already has: databases, brokers, stores."""
WORKERS = frozenset({Part.STREAMS, Part.LAKE, Part.LOADER, Part.WATCH})
"""Our own processes."""


class NotReadyError(StackError):
    """The part does not answer yet; asking again later is right."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a part needs to know of the stack it belongs to."""

    home: Home
    state: State
    secrets: Secrets
    cache: Path
    environment: Mapping[str, str] = field(repr=False)
    """Settings of the whole stack, as the workers read them."""

    def port(self, name: str) -> int:
        """The loopback port with this name."""
        return self.state.ports[name]


@dataclass(frozen=True, slots=True)
class Launch:
    """A process for the supervisor."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    """Drop to this user; only for a stack that runs as root."""
    stop_signal: Literal["TERM", "INT"] = "TERM"
    stop_wait_s: int = 30
    """After this long it is killed."""
    yields: bool = False
    """Let the processor go first to what an alert's way leads through, where there is not enough of it for all."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One part: the ports it takes, and its four steps in the order in which they are called."""

    part: Part
    ports: tuple[str, ...]
    prepare: Callable[[Context], None]
    """Make data directories and configuration. Called when the part does not run. Does nothing twice."""
    launch: Callable[[Context], Launch]
    check: Callable[[Context], None]
    """Returns when the part is ready, raises NotReadyError while it is not. Each call takes a few seconds at most."""
    stopped: Callable[[Context], None] = lambda _context: None
    """After a clean stop."""
    needs: frozenset[Part] = frozenset()
    """Parts without which this one cannot work."""
