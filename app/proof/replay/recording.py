"""Reads recorded records: one JSON object for each line as `kcat -C -J` writes it, plain, gzip or zstd."""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
import zstandard

from app.errors import BankstreamError

Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call, as the files are on disk."""

BLOCK: Final = 1 << 17
"""Bytes of lines that are decoded at a time. With the objects made from them they fit into a processor's cache."""

PACKED: Final = 1 << 17
"""Bytes of a file that are read at a time, which is also the granularity of progress."""


class RecordingError(BankstreamError):
    """A file is not a recording. The message names the line."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """A recorded Kafka record. Implements the engine's `InputRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class _Line(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int
    ts: int
    key: str | None = None
    payload: str | None = None
    headers: msgspec.Raw = msgspec.Raw(b"null")


_lines = msgspec.json.Decoder(_Line)
_header_lists = msgspec.json.Decoder(list[str | None] | None)


class _Counted(io.RawIOBase):
    """A file that reports the bytes read to `progress`."""

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
    """Yields the records of these topics, in the order of files and lines. Skips records of other topics.

    RecordingError names the file and line that cannot be read.
    """
    for path in paths:
        number = 0
        try:
            with path.open("rb") as file, _opened(path, file, progress) as opened:
                for block in _blocks(opened):
                    lines = block.count(b"\n") + 1
                    try:
                        decoded = _lines.decode_lines(block)
                    except msgspec.MsgspecError:
                        decoded = []
                    if len(decoded) == lines:
                        yield from _records(decoded, topics)
                    else:  # a line is invalid or empty, or has several objects
                        yield from _one_by_one(path, number, block.split(b"\n"), topics)
                    number += lines
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}") from None
        except (EOFError, zstandard.ZstdError) as error:
            raise RecordingError(
                f"{path}, after line {number}: the compressed file is damaged or cut short: {error}"
            ) from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines of a file in groups: those that end in one block of bytes, without the newline of the last line."""
    begun: list[bytes] = []
    while block := file.read(BLOCK):
        head, newline, rest = block.rpartition(b"\n")
        if not newline:
            begun.append(block)
            continue
        yield b"".join((*begun, head))
        begun = [rest]
    if last := b"".join(begun):
        yield last


def _records(lines: Iterable[_Line], topics: frozenset[str]) -> list[Recorded]:
    return [
        Recorded(
            line.topic,
            line.partition,
            line.offset,
            line.ts,
            None if line.key is None else line.key.encode(),
            None if line.payload is None else line.payload.encode(),
            _headers(bytes(line.headers)),
        )
        for line in lines
        if line.topic in topics
    ]


def _one_by_one(path: Path, before: int, lines: list[bytes], topics: frozenset[str]) -> Iterator[Recorded]:
    """Decodes lines one by one. Skips empty lines; RecordingError names an invalid one. `before`: the number of lines before these."""
    for number, text in enumerate(lines, before + 1):
        if text and not text.isspace():
            try:
                yield from _records((_lines.decode(text),), topics)
            except msgspec.MsgspecError as error:
                raise RecordingError(
                    f"{path}, line {number}: {error}. A recording has one JSON object per line with topic, partition, offset, ts, key "
                    "and payload, as `kcat -C -J` writes it"
                ) from None


@lru_cache(maxsize=256)
def _headers(raw: bytes) -> tuple[tuple[str, bytes], ...]:
    """Decodes headers. Cached, because the headers of one connector are nearly always the same."""
    flat = _header_lists.decode(raw) or ()
    return tuple(
        (name, value.encode())
        for name, value in zip(flat[::2], flat[1::2], strict=False)
        if name is not None and value is not None
    )


def _opened(path: Path, file: IO[bytes], progress: Progress) -> IO[bytes]:
    counted = io.BufferedReader(_Counted(file, progress), PACKED)
    match path.suffix:
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=counted))
        case ".zst":
            decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
            return cast(IO[bytes], decompressor.stream_reader(counted, read_size=PACKED, read_across_frames=True))
    return counted
