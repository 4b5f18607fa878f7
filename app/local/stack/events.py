"""What the stack tells its caller while it starts or stops: events for a terminal, a log, or nobody."""

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
    """A part was asked to start (or was found running already)."""

    part: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A part answered the question that shows it is ready, so many seconds after `up` began."""

    part: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A set-up step is done: migrations, topics, bucket, warehouse schema or connector."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """A part is being stopped."""

    part: str


@dataclass(frozen=True, slots=True)
class Died:
    """A part ended by itself and its supervisor starts it again. `tail` is the end of its log."""

    part: str
    reason: str
    tail: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line: leftovers of an earlier run were stopped, a port changed."""

    text: str


Event = Downloading | Starting | Ready | Provisioned | Stopping | Died | Note
Progress = Callable[[Event], None]


def silent(_event: Event) -> None:
    """A Progress that tells nobody."""
