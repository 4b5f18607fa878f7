"""A TCP proxy for one peer that resets, black-holes or delays connections, or cuts them in the middle of a response.

It simulates a network, not a server: it never alters or reorders bytes. Counters record the faults applied to real traffic.

reset       both ends receive an RST, also in the middle of a transfer
hold        a black hole: connections are accepted and stay open, no data passes in either direction; TCP buffers the data, so it
            arrives late after `release`
delay       all data arrives later by this time, in both directions; the throughput stays the same
cut         the next responses end after this many bytes, with an RST
"""

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Self

CHUNK = 64 << 10
MAX_CHUNKS = 256
"""Limit of buffered chunks in one direction of a connection. More data stays at the sender, as with a full TCP window."""
HOST = "127.0.0.1"


class Filter(Protocol):
    """Sees one direction of one connection."""

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Returns the bytes to pass on for these. Raises CutError to reset the connection at this point."""
        ...


class CutError(Exception):
    """Resets the connection after sending `last`."""

    def __init__(self, kind: str, last: bytes = b"") -> None:
        super().__init__(kind)
        self.kind, self.last = kind, last


class Plain:
    """Passes on everything."""

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Returns the same bytes."""
        return (data,)


class _Cutting:
    """Cuts responses. The positions of the cuts are in bytes since they were armed."""

    def __init__(self, cuts: deque[int]) -> None:
        self._cuts = cuts

    def feed(self, data: bytes) -> Iterable[bytes]:
        if not self._cuts:
            return (data,)
        if len(data) <= self._cuts[0]:
            self._cuts[0] -= len(data)
            return (data,)
        raise CutError("cut", data[: self._cuts.popleft()])


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    upstream: asyncio.StreamWriter

    def reset(self) -> None:
        """Sends an RST to both ends."""
        for writer in (self.client, self.upstream):
            with suppress(OSError):
                end = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class TcpProxy:
    """An async context manager; `port` is where it listens. All methods run on its event loop: `Background.call(wire.reset())`."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self._peer = (host, port)
        self._links: set[Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._delay_s = 0.0
        self._cuts: deque[int] = deque()
        self.fired: Counter[str] = Counter()
        """Number of times that each fault affected traffic: connections reset or cut, chunks held or delayed."""
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._links)

    async def reset(self) -> int:
        """Resets all open connections and returns their number."""
        links = list(self._links)
        for link in links:
            link.reset()
        self.fired["reset"] += len(links)
        return len(links)

    async def hold(self) -> None:
        """Passes no data until `release`."""
        self._open.clear()

    async def release(self) -> None:
        """Passes data again, first what was held."""
        self._open.set()

    async def delay(self, seconds: float) -> None:
        """Delays all data by this time; 0 ends the delay."""
        self._delay_s = seconds

    async def cut(self, *after_bytes: int) -> None:
        """Cuts responses after this many bytes from now on. Each further number is another cut, counted from the previous one."""
        self._cuts.extend(after_bytes)

    def filters(self) -> tuple[Filter, Filter]:
        """The filters for the requests and the responses of one new connection."""
        return Plain(), _Cutting(self._cuts)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            try:
                answers, upstream = await asyncio.open_connection(*self._peer)
            except OSError:  # the peer is down, so the client's connection is closed too
                writer.transport.abort()
                return
            link = Link(writer, upstream)
            self._links.add(link)
            try:
                await self._carry(link, reader, answers)
            finally:
                self._links.discard(link)
                for end in (writer, upstream):
                    end.close()
        except asyncio.CancelledError:
            pass  # the proxy is closing; asyncio's streams would log this as an error
        finally:
            self._serving.discard(task)

    async def _carry(self, link: Link, requests: asyncio.StreamReader, answers: asyncio.StreamReader) -> None:
        """Passes data until one direction breaks or both have ended."""
        tasks: list[asyncio.Task[None]] = []
        onward, back = self.filters()
        for source, sink, through in ((requests, link.upstream, onward), (answers, link.client, back)):
            way: Way = asyncio.Queue(MAX_CHUNKS)
            tasks += [asyncio.create_task(self._take(source, way)), asyncio.create_task(self._give(sink, way, through))]
        try:
            await asyncio.gather(*tasks)
        except CutError as cut:
            self.fired[cut.kind] += 1
            link.reset()
        except OSError:  # one end is gone, so the other end is reset
            link.reset()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, source: asyncio.StreamReader, way: "Way") -> None:
        clock = asyncio.get_running_loop().time
        chunk: bytes | None = b"-"
        while chunk:
            try:
                chunk = await source.read(CHUNK)
            except OSError:
                chunk = None
            await way.put((clock() + self._delay_s, chunk))

    async def _give(self, sink: asyncio.StreamWriter, way: "Way", through: Filter) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, chunk = await way.get()
            if (wait := due - clock()) > 0:
                self.fired["delayed"] += 1
                await asyncio.sleep(wait)
            if not self._open.is_set():
                self.fired["held"] += 1
                await self._open.wait()
            if chunk is None:
                raise ConnectionResetError
            if not chunk:
                sink.write_eof()
                return
            try:
                for piece in through.feed(chunk):
                    sink.write(piece)
            except CutError as cut:
                sink.write(cut.last)
                await sink.drain()
                raise
            await sink.drain()


Way = asyncio.Queue[tuple[float, bytes | None]]
"""Chunks with the time at which they are due at the other end; b"" is the end of the stream, None an RST."""
