"""Reads and writes the stack's directory: its layout, its state between runs, its passwords and its lock.

.bankstream/
  state.json      ports, parts and ids, kept for the next run
  secrets.json    random passwords of this stack, mode 0600
  run/            supervisor's configuration and socket, one launch file for each part, mode 0700
  logs/           one log for each part, rotated
  postgres/ kafka/ connect/ s3/ warehouse/ state/    the data of each part
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from app.local.stack.errors import HomeError, StackError

Content = TypeVar("Content", bound=msgspec.Struct)

MAX_SOCKET_PATH: Final = 96
"""A unix socket's path has at most 107 bytes, and supervisor binds a temporary name that is up to 8 bytes longer."""
MIN_FREE_BYTES: Final = 500 << 20
LOCK_TIMEOUT_S: Final = 300


class State(msgspec.Struct, frozen=True):
    """The state of a stack that is kept between runs. It holds no secrets."""

    instance: str
    kafka_cluster_id: str
    ports: dict[str, int] = {}
    parts: tuple[str, ...] = ()
    streams_workers: int = 1
    postgres_base: str | None = None
    """PostgreSQL's directory outside the home, if the user that PostgreSQL runs as has no access to the home."""


class Secrets(msgspec.Struct, frozen=True):
    """The random passwords of one stack."""

    postgres_admin: str
    postgres_owner: str
    postgres_app: str
    postgres_replication: str
    postgres_reader: str
    s3_access_key_id: str
    s3_secret_access_key: str
    warehouse: str
    api: str = ""
    """A token for the lookup API. Stacks of older versions have none."""

    def __repr__(self) -> str:
        return "Secrets(…)"


def new_state() -> State:
    """Returns the state of a stack that has never run."""
    raw = secrets.token_urlsafe(16)
    while raw.startswith("-"):  # Kafka's tools read a leading dash as an option
        raw = secrets.token_urlsafe(16)
    return State(instance=secrets.token_hex(8), kafka_cluster_id=raw)


def new_secrets() -> Secrets:
    """Returns new random passwords of 192 bits each; the S3 access key id has 80 bits."""
    names = [name for name in Secrets.__struct_fields__ if name != "s3_access_key_id"]
    return Secrets(
        **{name: secrets.token_urlsafe(24) for name in names}, s3_access_key_id=secrets.token_hex(10).upper()
    )


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one stack."""

    path: Path

    @property
    def run(self) -> Path:
        """The directory of supervisor's files."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """The directory of the parts' logs."""
        return self.path / "logs"

    def log(self, part: str) -> Path:
        """Returns the path of a part's log."""
        return self.logs / f"{part}.log"

    def data(self, part: str) -> Path:
        """Returns a part's data directory."""
        return self.path / part

    def socket(self, state: State) -> Path:
        """Returns supervisor's socket. It is in a private temporary directory if the home's path is too long for a socket."""
        path = self.run / "supervisor.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        return self.short_run(state) / "supervisor.sock"

    def short_run(self, state: State) -> Path:
        """Returns the private directory for a socket whose path in the home would be too long."""
        return Path(tempfile.gettempdir()) / f"bankstream-{os.getuid()}-{state.instance}"

    def prepare(self) -> None:
        """Create the directories. Raises HomeError if that fails or if too little disk space is left."""
        if any(character in str(self.path) for character in "\"'\\\n\r\0"):
            raise HomeError(
                f"{str(self.path)!r} has a quote, backslash or line break in it. Choose another BANKSTREAM_HOME."
            )
        with os_errors_as_home_errors(self.path):
            if not self.path.exists():
                self.path.mkdir(parents=True, mode=0o755)
            for directory in (self.run, self.logs):
                directory.mkdir(exist_ok=True, mode=0o700)
            probe = self.run / ".writable"
            probe.write_bytes(b"x")
            probe.unlink()
        free = shutil.disk_usage(self.path).free
        if free < MIN_FREE_BYTES:
            raise HomeError(
                f"the disk of {self.path} has {free >> 20} MB left; the stack needs {MIN_FREE_BYTES >> 20} MB to start. "
                "Free some space, or set BANKSTREAM_HOME to a directory on another disk."
            )

    def load_state(self) -> State | None:
        """Returns the state of the last run; None if there was none."""
        return _load(self.path / "state.json", State)

    def save_state(self, state: State) -> None:
        """Write the state for the next run."""
        with os_errors_as_home_errors(self.path):
            _write(self.path / "state.json", msgspec.json.format(msgspec.json.encode(state)), 0o644)

    def load_secrets(self) -> Secrets | None:
        """Returns the passwords of this stack; None before its first run."""
        return _load(self.path / "secrets.json", Secrets)

    def save_secrets(self, value: Secrets) -> None:
        """Write the passwords to a file that only the user can read."""
        with os_errors_as_home_errors(self.path):
            _write(self.path / "secrets.json", msgspec.json.format(msgspec.json.encode(value)), 0o600)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that `up` and `down` need. Waits for another holder; raises StackError after LOCK_TIMEOUT_S."""
        with os_errors_as_home_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"another process has been starting or stopping the stack in {self.path} for {LOCK_TIMEOUT_S} s. "
                            "Wait for it or end it, then try again."
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def os_errors_as_home_errors(path: Path) -> Iterator[None]:
    """Turn an OSError under `path` into a HomeError."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HomeError(
                f"the disk is full: cannot write {where}. Free some space, or set BANKSTREAM_HOME to another disk."
            ) from error
        raise HomeError(
            f"cannot use {where} ({error.strerror}). Make it writable for this user, or set BANKSTREAM_HOME to a directory "
            "that is."
        ) from error


def private_directory(path: Path) -> None:
    """Create a directory that only this user can use. Raises HomeError if another user owns the path."""
    with os_errors_as_home_errors(path):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise HomeError(f"{path} is not a directory of this user. Remove it, or choose a shorter BANKSTREAM_HOME.")
        path.chmod(0o700)


def atomic_write(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Replace a file in one step, so that no reader sees half of it. `mode` holds from the first byte on."""
    with os_errors_as_home_errors(path):
        _write(path, content.encode() if isinstance(content, str) else content, mode)


def digest(*parts: object) -> str:
    """Returns a short hash of the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def _write(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        temporary.replace(path)
    except OSError:  # for example a full disk: do not leave half a file
        temporary.unlink(missing_ok=True)
        raise


def _load(path: Path, kind: type[Content]) -> Content | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise HomeError(
            f"{path} cannot be read ({error}). Restore it, or delete this stack's data: bankstream stack down --wipe"
        ) from None
