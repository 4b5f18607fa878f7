"""Who looked at whom: one JSON line a request, written before the answer goes out. Without the line there is no answer."""

import os
from pathlib import Path
from typing import Final

import msgspec

from app.errors import SettingsError

STDERR: Final = 2


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked, by whom, and what became of it. It has keys, and never the value of another column."""

    time: str
    request_id: str
    client: str
    method: str
    endpoint: str
    """The path's template."""
    status: int
    duration_ms: float
    key: int | None = None
    clear: bool = False
    """Whether personal data went out in clear."""
    forwarded: bool = False
    """Whether another worker sent it here, and has a line of its own."""
    audit: str = "lookup"


class AuditLog:
    """Appends entries to a file, or to standard error."""

    def __init__(self, path: Path | None) -> None:
        """SettingsError when the file cannot be written."""
        self._descriptor = STDERR
        if path is not None:
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise SettingsError(
                    f"{path}: {error.strerror}. Set BANKSTREAM_API_AUDIT_FILE to a file that can be written, or unset it."
                ) from None

    def write(self, entry: AuditEntry) -> None:
        """Add a line, whole. OSError if it cannot be."""
        line = msgspec.json.encode(entry) + b"\n"
        if os.write(self._descriptor, line) != len(line):
            raise OSError("only a part of the line was written: is the disk full?")
