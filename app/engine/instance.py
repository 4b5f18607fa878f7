"""A state directory of one's own: several workers with the same settings on one machine, and each finds its warm state again.

With the directory goes the worker's name in its consumer group (Kafka's `group.instance.id`, static membership of KIP-345): a worker
that died and comes back within the session timeout gets the very partitions whose state it has, and nobody else has to stop.
"""

import fcntl
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from app.errors import SettingsError

MAX_INSTANCES = 64

_held: list[int] = []
"""Lock file descriptors, open for as long as the process lives: the kernel frees the locks with it, even after kill -9."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What a worker has for itself for as long as it lives, and what the next worker in its place takes over."""

    directory: Path
    group_instance_id: str


def claim(state_dir: Path) -> Instance:
    """The first directory `state_dir/<n>` that no living process has. SettingsError when it cannot be made or all are taken."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        for number in range(MAX_INSTANCES):
            descriptor = os.open(state_dir / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            _held.append(descriptor)
            return Instance(state_dir / str(number), _name(state_dir / f"{number}.id"))
    except OSError as error:
        raise SettingsError(
            f"the state directory {state_dir} cannot be used: {error.strerror}. Set BANKSTREAM_ENGINE_STATE_DIR to one that can."
        ) from error
    raise SettingsError(
        f"{MAX_INSTANCES} workers already use {state_dir}. Set BANKSTREAM_ENGINE_STATE_DIR to another directory."
    )


def _name(path: Path) -> str:
    """The name kept in the file. A copy of the directory on another machine is another worker: two with one name would take each
    other's place for ever.
    """
    node = platform.node()
    kept = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    if kept.rpartition("-")[0] == node and kept.rpartition("-")[2]:
        return kept
    made = f"{node}-{uuid4().hex}"
    unfinished = path.with_suffix(".new")
    unfinished.write_text(made + "\n", encoding="utf-8")
    unfinished.replace(path)
    return made
