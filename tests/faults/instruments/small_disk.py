"""A real file system of a few megabytes that can be filled completely. Needs the right to mount, usually root."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
BALLAST: Final = "ballast"
CHUNK: Final = bytes(64 << 10)


def unavailable() -> str:
    """Why this process cannot mount a small disk; empty if it can."""
    if os.geteuid() != 0:
        return "a file system of its own can only be mounted by root"
    return ""


@dataclass(frozen=True)
class SmallDisk:
    """A small disk, mounted at `path`."""

    path: Path

    def fill(self) -> int:
        """Fills the free space and returns its size in bytes. Proof: not one more byte can be written."""
        written = 0
        with (self.path / BALLAST).open("ab", buffering=0) as ballast:
            for size in (len(CHUNK), 512, 1):
                try:
                    while True:
                        written += ballast.write(CHUNK[:size])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        return written

    def free(self) -> None:
        """Frees the space that `fill` used."""
        (self.path / BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mounts a disk over an empty directory, and unmounts it at the end even if files are open. OSError without the right to mount."""
    path.mkdir(parents=True, exist_ok=True)
    target = os.fsencode(path)
    if _libc.mount(b"tmpfs", target, b"tmpfs", 0, f"size={megabytes}m".encode()):
        raise OSError(ctypes.get_errno(), f"a tmpfs cannot be mounted at {path}: {os.strerror(ctypes.get_errno())}")
    try:
        yield SmallDisk(path)
    finally:
        _libc.umount2(target, 2)  # MNT_DETACH
