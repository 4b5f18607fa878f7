"""A state directory of one's own: several workers with the same settings on one machine, and each finds its warm state again."""

import fcntl
import os
from pathlib import Path

from app.errors import SettingsError

MAX_INSTANCES = 64

_held: list[int] = []
"""Lock file descriptors, open for as long as the process lives: the kernel frees the locks with it, even after kill -9."""


def claim(state_dir: Path) -> Path:
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
            return state_dir / str(number)
    except OSError as error:
        raise SettingsError(
            f"the state directory {state_dir} cannot be used: {error.strerror}. Set BANKSTREAM_ENGINE_STATE_DIR to one that can."
        ) from error
    raise SettingsError(
        f"{MAX_INSTANCES} workers already use {state_dir}. Set BANKSTREAM_ENGINE_STATE_DIR to another directory."
    )
