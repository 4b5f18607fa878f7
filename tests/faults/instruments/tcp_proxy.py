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
"""On the way in one direction of a connection; more stays with the sender, as it does with a full TCP window."""
HOST = "127.0.0.1"


class Filter(Protocol):
    """Sees one direction of one connection."""

    def feed(self, data: bytes) -> Iterable[bytes]:
        """What to pass on for these bytes. CutError to break the connection off there."""
        ...


class CutError(Exception):
    """Break the connection off behind `last`."""

    def __init__(self, kind: str, last: bytes = b"") -> None:
        super().__init__(kind)
        self.kind, self.last = kind, last


class Plain:
    """Passes on everything."""

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The same bytes."""
        return (data,)


class _Cutting:
    """Answers of a plain wire: the cuts are in bytes since they were armed."""

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
    """One connection through the wire."""

    client: asyncio.StreamWriter
    upstream: asyncio.StreamWriter

    def reset(self) -> None:
        """An RST to either end."""
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
        """How often each fault touched traffic: connections reset or cut, chunks held or delayed."""
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
        """How many are open now."""
        return len(self._links)

    async def reset(self) -> int:
        """Reset every connection that is open now; answers how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        self.fired["reset"] += len(links)
        return len(links)

    async def hold(self) -> None:
        """Let nothing through until `release`."""
        self._open.clear()

    async def release(self) -> None:
        """Let everything through, also what was held."""
        self._open.set()

    async def delay(self, seconds: float) -> None:
        """Let everything arrive later, or with 0 at once."""
        self._delay_s = seconds

    async def cut(self, *after_bytes: int) -> None:
        """Break off after so many bytes of answers from now on; each further number is a further cut, counted from the one before."""
        self._cuts.extend(after_bytes)

    def filters(self) -> tuple[Filter, Filter]:
        """For requests and for answers of one new connection."""
        return Plain(), _Cutting(self._cuts)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            try:
                answers, upstream = await asyncio.open_connection(*self._peer)
            except OSError:  # the peer is away: so is the wire's other end
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
            pass  # of the wire's own end; asyncio's streams would log it as an error
        finally:
            self._serving.discard(task)

    async def _carry(self, link: Link, requests: asyncio.StreamReader, answers: asyncio.StreamReader) -> None:
        """Until either direction has broken, or both have ended."""
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
        except OSError:  # one end is gone, and the other hears of it
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
"""When each chunk is due at the other end; b"" is its end, None an RST."""
