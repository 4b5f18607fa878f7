"""Gives each worker its own state directory, so that several workers with the same settings can run on one machine and reuse their state.

Each directory has a `group.instance.id` (Kafka's static membership, KIP-345). A worker that restarts within the session timeout gets the
same partitions, whose state it has, and the other workers do not have to stop.
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
"""Lock file descriptors, open until the process ends: the kernel then frees the locks, even after kill -9."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The state directory and group instance id that a worker holds while it runs, and that the next worker reuses."""

    directory: Path
    group_instance_id: str


def claim(state_dir: Path) -> Instance:
    """Claims the first free directory `state_dir/<n>`. Raises SettingsError if it cannot be created or running processes hold them all."""
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
    """Returns the name in the file, or writes a new one if the file is absent or was copied from another machine. Two workers with one name
    would take each other's place in the group without end.
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
