"""Collects consecutive records that become one object. Lines are compressed as they arrive, to use little memory."""

import hashlib
import io
from collections.abc import Iterator

import zstandard

SUFFIX = ".ndjson.zst"


class Segment:
    """Lines of one partition in offset order. The segment must be written at `deadline`, in the event loop's time."""

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
        """Returns the object's content. No lines can be added afterwards."""
        if self._body is None:
            self._body = b"".join([*self._chunks, self._compressor.flush()])
            self._chunks = []
        return self._body

    def after(self, offset: int) -> "Segment":
        """Returns the part after an offset; the segment itself if that is all of it."""
        if not self.offsets or self.offsets[0] > offset:
            return self
        rest = Segment(self._level, self.deadline)
        for number, line in zip(self.offsets, lines(self.body()), strict=True):
            if number > offset:
                rest.add(number, line)
        return rest


def lines(body: bytes) -> Iterator[bytes]:
    """Yields the lines of an object's content, each with its newline."""
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        yield from io.BufferedReader(reader)


def digest(body: bytes) -> str:
    """Returns the sha256 of an object's content, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()
