"""Events that the stack reports to its caller while it starts or stops."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Downloading:
    """Files of the Java parts are being fetched. Both counts are bytes; the first event has `done_bytes` 0."""

    name: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Starting:
    """A part is being started, or was already running."""

    part: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A part passed its readiness check, `seconds` after `up` began."""

    part: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A provisioning step is done: migrations, topics, bucket, warehouse schema or connector."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """A part is being stopped."""

    part: str


@dataclass(frozen=True, slots=True)
class Died:
    """A part exited without a request to stop; its supervisor restarts it. `tail` is the end of its log."""

    part: str
    reason: str
    tail: str


@dataclass(frozen=True, slots=True)
class Note:
    """Other information, such as orphaned processes of an earlier run that were stopped."""

    text: str


Event = Downloading | Starting | Ready | Provisioned | Stopping | Died | Note
Progress = Callable[[Event], None]


def silent(_event: Event) -> None:
    """A Progress that discards the event."""
