"""Writes a replay's outputs: a file for each topic, a line `{"key":…,"value":…}` for each record. Files appear when all are complete."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from app.engine.memory import EmittedRecord
from app.errors import BankstreamError


class OutputError(BankstreamError):
    """The directory cannot be written."""


class Outputs:
    """The files of one replay. Use it as a context manager; an exception leaves existing files unchanged."""

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self._directory = directory
        self._names = tuple(names)
        self._files: dict[str, IO[bytes]] = {}
        self.counts: dict[str, int] = dict.fromkeys(self._names, 0)

    def __enter__(self) -> Self:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for name in self._names:
                self._files[name] = self._unfinished(name).open("wb", buffering=1 << 20)
        except OSError as error:
            raise OutputError(f"{self._directory} cannot be written: {error.strerror}. Choose another --out") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        for name in self._names:
            if error is None:
                self._unfinished(name).replace(self._directory / f"{name}.ndjson")
            else:
                self._unfinished(name).unlink(missing_ok=True)

    def write(self, name: str, records: Sequence[EmittedRecord]) -> None:
        """Appends records."""
        lines: list[bytes] = []
        for record in records:
            lines += (b'{"key":', _json(record.key), b',"value":', record.value or b"null", b"}\n")
        self._files[name].write(b"".join(lines))
        self.counts[name] += len(records)

    def _unfinished(self, name: str) -> Path:
        return self._directory / f".{name}.ndjson.unfinished"


def _json(key: bytes | None) -> bytes:
    """Returns a key as JSON: unchanged if it is JSON, else (a dead letter's key may be anything) as {"base64": …}."""
    if key is None:
        return b"null"
    return _short(key) if len(key) < 64 else _format(key)


def _format(key: bytes) -> bytes:
    if key.startswith(b'{"'):  # the keys that the workers write
        try:
            key.decode()  # the formatter does not validate the encoding of strings
            return msgspec.json.format(key, indent=-1)
        except (UnicodeDecodeError, msgspec.MsgspecError):
            pass
    return b'{"base64":"%b"}' % b64encode(key)


_short = lru_cache(maxsize=65_536)(_format)
