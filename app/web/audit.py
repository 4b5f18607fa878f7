"""Writes the audit: one JSON line for each request, before its answer is sent. If the line cannot be written, the answer is withheld."""

import os
from pathlib import Path
from typing import Final

import msgspec

from app.errors import SettingsError

STDERR: Final = 2


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request, its client and its result. It contains keys, but no values of other columns."""

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
    """Whether personal data was sent unmasked."""
    forwarded: bool = False
    """Whether another worker forwarded the request; that worker writes its own line."""
    audit: str = "lookup"


class AuditLog:
    """Appends entries to a file, or to standard error."""

    def __init__(self, path: Path | None) -> None:
        """Raises SettingsError if the file cannot be opened for writing."""
        self._descriptor = STDERR
        if path is not None:
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise SettingsError(
                    f"{path}: {error.strerror}. Set BANKSTREAM_API_AUDIT_FILE to a file that can be written, or unset it."
                ) from None

    def write(self, entry: AuditEntry) -> None:
        """Append one whole line. Raises OSError if that fails."""
        line = msgspec.json.encode(entry) + b"\n"
        if os.write(self._descriptor, line) != len(line):
            raise OSError("only a part of the line was written: is the disk full?")
