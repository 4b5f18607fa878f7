"""Reading recorded records: one JSON object a line as `kcat -C -J` writes it, plain, gzip or zstd."""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import zstandard

from app.errors import BankstreamError

Progress = Callable[[int], None]
"""Told how many bytes of the files, as they are on disk, have been read since the last call."""


class RecordingError(BankstreamError):
    """A file that is no recording, with the line that is not."""


class Recorded(msgspec.Struct, frozen=True):
    """A recorded Kafka record. Implements the engine's `InputRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class _Line(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    ts: int
    key: str | None = None
    payload: str | None = None
    headers: list[str | None] | None = None


_lines = msgspec.json.Decoder(_Line)


class _Counted(io.RawIOBase):
    """Passes a file through and tells how far it is read."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        super().__init__()
        self._file, self._progress = file, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._progress(len(data))
        return len(data)


def read(paths: Iterable[Path], topics: frozenset[str], progress: Progress) -> Iterator[Recorded]:
    """The records of these topics, file after file, line after line. Records of other topics are passed over.

    RecordingError names the file and line that cannot be read.
    """
    for path in paths:
        number = 0
        try:
            with path.open("rb") as file, _opened(path, file, progress) as lines:
                for number, text in enumerate(lines, 1):  # noqa: B007 - for the messages below
                    if not text.isspace():
                        line = _lines.decode(text)
                        if line.topic in topics:
                            yield _recorded(line)
        except msgspec.MsgspecError as error:
            raise RecordingError(
                f"{path}, line {number}: {error}. A recording has a JSON object a line with topic, partition, offset, ts, key and "
                "payload, as `kcat -C -J` writes it"
            ) from None
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}") from None
        except (EOFError, zstandard.ZstdError) as error:
            raise RecordingError(
                f"{path}, after line {number}: the compressed file is damaged or cut short: {error}"
            ) from None


def _opened(path: Path, file: IO[bytes], progress: Progress) -> IO[bytes]:
    counted = io.BufferedReader(_Counted(file, progress), 1 << 20)
    match path.suffix:
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=counted))
        case ".zst":
            decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
            return io.BufferedReader(decompressor.stream_reader(counted, read_across_frames=True), 1 << 20)
    return counted


def _recorded(line: _Line) -> Recorded:
    flat = line.headers or ()
    headers = tuple(
        (name, value.encode())
        for name, value in zip(flat[::2], flat[1::2], strict=False)
        if name is not None and value is not None
    )
    return Recorded(
        line.topic, line.partition, line.offset, line.ts, _bytes(line.key), _bytes(line.payload), headers
    )  # fmt: skip


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
