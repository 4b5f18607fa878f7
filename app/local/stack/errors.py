"""Errors of the local stack. Each message says what to do."""

from pathlib import Path

from app.errors import BankstreamError

COMPOSE_HINT = "Run the same system with Docker instead: docker compose up"


class StackError(BankstreamError):
    """Root of the local stack's errors."""


class UnsupportedPlatformError(StackError):
    """A part has no build for this machine."""


class HomeError(StackError):
    """The stack's directory cannot be used."""


class DownloadError(StackError):
    """A file from a registry could not be fetched, or is not the file that the lock names."""


class PortInUseError(StackError):
    """A port that the user pinned is in use by another program."""


class PartFailedError(StackError):
    """A part exited or did not become ready. The message ends with the last lines of its log."""

    def __init__(self, part: str, problem: str, log: Path, tail: str) -> None:
        last = f"Its log {log} ends with:\n{tail}" if tail else f"Its log {log} is empty."
        super().__init__(f"{part} {problem}. {last}")
        self.part = part


class ProvisionError(StackError):
    """A part runs, but provisioning it failed: topics, schema, bucket or connector."""
