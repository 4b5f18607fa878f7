"""A run of consecutive records that will become one object: lines compressed as they come, so that memory holds little."""

import hashlib
import io
from collections.abc import Iterator

import zstandard

SUFFIX = ".ndjson.zst"


class Segment:
    """Lines of one partition in offset order. `deadline` is when it has to be cut, in the event loop's time."""

    __slots__ = ("_body", "_chunks", "_compressor", "_level", "deadline", "offsets", "size")

    def __init__(self, level: int, deadline: float) -> None:
        self._level, self.deadline = level, deadline
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
        self._chunks: list[bytes] = []
        self._body: bytes | None = None
        self.offsets: list[int] = []
        self.size = 0
        """Uncompressed bytes."""

    def add(self, offset: int, line: bytes) -> None:
        """Append a line, which ends with its only newline."""
        if chunk := self._compressor.compress(line):
            self._chunks.append(chunk)
        self.offsets.append(offset)
        self.size += len(line)

    def body(self) -> bytes:
        """The object's content. Nothing can be added any more."""
        if self._body is None:
            self._body = b"".join([*self._chunks, self._compressor.flush()])
            self._chunks = []
        return self._body

    def after(self, offset: int) -> "Segment":
        """The part behind an offset: itself if that is all of it."""
        if not self.offsets or self.offsets[0] > offset:
            return self
        rest = Segment(self._level, self.deadline)
        for number, line in zip(self.offsets, lines(self.body()), strict=True):
            if number > offset:
                rest.add(number, line)
        return rest


def lines(body: bytes) -> Iterator[bytes]:
    """The lines of an object's content, each with its newline."""
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        yield from io.BufferedReader(reader)


def digest(body: bytes) -> str:
    """The sha256 of an object's content, in hex."""
    return hashlib.sha256(body).hexdigest()
