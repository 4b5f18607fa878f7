"""Reads the tokens file, which has the SHA-256 and the scopes of each client's token. Only the clients have the tokens themselves.

    [fraud-desk]
    sha256 = "…"                 # `bankstream api-token fraud-desk --scope lookup` prints both
    scopes = ["lookup", "alerts"]
    rate_per_s = 50              # default: BANKSTREAM_API_RATE_PER_S

A token has 256 random bits, so its plain hash cannot be reversed by search. The file is reread when it changes: a removed token is refused
within a second. While the file cannot be read, every token is refused.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.errors import SettingsError

logger = logging.getLogger(__name__)

SCOPES: Final = {
    "lookup": "customers, accounts, velocity and versions; columns with personal data are masked",
    "pii": "the same without masking",
    "alerts": "recent and live alerts",
    "metrics": "this worker's metrics",
}
PREFIX: Final = "bst_"
MAX_FILE_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 1.0

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class TokensError(SettingsError):
    """The tokens file cannot be used. The message names the file and all its problems."""


@dataclass(frozen=True, slots=True)
class Client:
    """The holder of a token."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    rate_per_s: int | None = None


def mint() -> str:
    """Returns a new random token."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Returns the SHA-256 of a token."""
    return hashlib.sha256(token.encode()).digest()


def entry(name: str, token: str, scopes: tuple[str, ...]) -> str:
    """Returns a client's entry for the tokens file. Raises TokensError for an invalid name or scope."""
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    text = f'[{name}]\nsha256 = "{digest(token).hex()}"\nscopes = [{listed}]\n'
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        found = {name: None}
    _clients(found, "the new entry")
    return text


class Tokens:
    """The clients in the current tokens file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises TokensError if the file cannot be used."""
        self._path, self._clock = path, clock
        self._seen = self._stamp()
        self._clients: tuple[Client, ...] = read(path)
        self._looked = clock()

    def client(self, token: str) -> Client | None:
        """Returns the client with this token; None for an unknown one. The time does not depend on the token."""
        self._look()
        given, found = digest(token), None
        for client in self._clients:
            if hmac.compare_digest(given, client.digest):
                found = client
        return found

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._clients = read(self._path)
            logger.info("reread the tokens of %d clients", len(self._clients))
        except TokensError as error:
            self._clients = ()
            logger.critical("no token is accepted any more: %s", error)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> tuple[Client, ...]:
    """Returns the clients in a file. Raises TokensError if it cannot be used, or if others than its owner may write it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(MAX_FILE_BYTES + 1)
        document = tomllib.loads(raw.decode())
    except OSError as error:
        raise TokensError(
            f"{path}: {error.strerror}. Set BANKSTREAM_API_TOKENS_FILE to a readable file, or BANKSTREAM_API_PORT to 0."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise TokensError(f"{path}: this is not valid TOML. Correct the file.") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise TokensError(f"{path}: others than its owner may write it. Run: chmod go-w {path}")
    if len(raw) > MAX_FILE_BYTES:
        raise TokensError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MB. Is it the tokens file?")
    return _clients(document, str(path))


def _clients(document: Mapping[str, Any], place: str) -> tuple[Client, ...]:
    problems: list[str] = []
    found = tuple(_client(name, fields, problems) for name, fields in document.items())
    digests = [client.digest for client in found if client.digest]
    if len(set(digests)) != len(digests):
        problems.append("two clients have the same token")
    if problems:
        raise TokensError(f"{place}: {'; '.join(problems)}. Correct it.")
    return found


def _client(name: str, fields: object, problems: list[str]) -> Client:
    if not _NAME.fullmatch(name):
        problems.append(f"a client's name has at most 64 letters, digits, dots, dashes and underscores: {name!r}")
    if not isinstance(fields, Mapping):
        problems.append(f"{name} is outside of a [client] table")
        return Client(name, b"", frozenset())
    if unknown := sorted(fields.keys() - {"sha256", "scopes", "rate_per_s"}):
        problems.append(f"[{name}] has unknown fields: {', '.join(unknown)}")
    raw, scopes, rate = fields.get("sha256"), fields.get("scopes"), fields.get("rate_per_s")
    if not isinstance(raw, str) or not _DIGEST.fullmatch(raw):
        problems.append(f"[{name}] sha256 must be 64 lower-case hexadecimal digits")
        raw = ""
    if not isinstance(scopes, list) or not scopes or not all(isinstance(one, str) and one in SCOPES for one in scopes):
        problems.append(f"[{name}] scopes must be a list of some of {', '.join(SCOPES)}")
        scopes = []
    if rate is not None and (not isinstance(rate, int) or isinstance(rate, bool) or rate < 1):
        problems.append(f"[{name}] rate_per_s must be a whole number of at least 1")
        rate = None
    return Client(name, bytes.fromhex(raw), frozenset(scopes), rate)
