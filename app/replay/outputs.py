"""Writing what a replay emitted: one file a topic, a line `{"key":…,"value":…}` a record. They appear when all of them are complete."""

from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from app.errors import BankstreamError


class OutputError(BankstreamError):
    """The directory cannot be written."""


class Outputs:
    """The files of one replay. Use with `with`; an exception leaves earlier files as they were."""

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

    def write(self, name: str, key: bytes | None, value: bytes | None) -> None:
        """Append a record."""
        self._files[name].write(b'{"key":%b,"value":%b}\n' % (_json(key), value or b"null"))
        self.counts[name] += 1

    def _unfinished(self, name: str) -> Path:
        return self._directory / f".{name}.ndjson.unfinished"


def _json(key: bytes | None) -> bytes:
    """A key as JSON: as it is, or, when it is none (a dead letter's key may be anything), as {"base64": …}."""
    if key is None:
        return b"null"
    if key.startswith(b'{"') and key.isascii():  # the keys that we write ourselves
        try:
            return msgspec.json.format(key, indent=-1)
        except msgspec.MsgspecError:
            pass
    return b'{"base64":"%b"}' % b64encode(key)
