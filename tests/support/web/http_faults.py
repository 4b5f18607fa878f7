"""An HTTP proxy for one upstream that injects faults of a network or an overloaded server into chosen exchanges.

Faults by name, each for one exchange:
pass         nothing happens
reset        the connection is reset before the upstream sees the request
partial      the upstream sees the head and half of the body, then its connection is reset, and the client's too
unavailable  the upstream does not see the request, the client gets a 503; throttled: a 429; broken: a 500
lost         the upstream carries the request out, its reply is not delivered
mistaken     the upstream carries the request out, the client gets a 500
cut          the upstream carries the request out, half of its reply is delivered
slow         the reply comes two seconds late
"""

import asyncio
import gzip
import json
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self

Named = Literal[
    "pass", "reset", "partial", "unavailable", "throttled", "broken", "lost", "mistaken", "cut", "slow"
]  # fmt: skip
SLOW_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that the client gets in place of the upstream's."""

    status: str
    body: bytes = b""
    content_type: str = "application/xml"
    name: str = "reply"
    closes: bool = False
    """Whether the connection closes after it."""

    def encode(self, *, head_only: bool = False) -> bytes:
        """The HTTP message."""
        head = f"HTTP/1.1 {self.status}\r\nContent-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n"
        end = "Connection: close\r\n\r\n" if self.closes else "\r\n"
        return (head + end).encode() + (b"" if head_only else self.body)


def json_reply(content: object, name: str) -> Reply:
    """A 200 with this content."""
    return Reply("200 OK", json.dumps(content).encode(), "application/json", name)


def _s3_error(code: str, message: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    )


REPLIES: Final[dict[str, Reply]] = {
    "unavailable": Reply("503 Slow Down", _s3_error("SlowDown", "Please reduce your request rate."), closes=True),
    "throttled": Reply("429 Too Many Requests", _s3_error("TooManyRequests", "Please reduce your request rate.")),
    "broken": Reply(
        "500 Internal Server Error", _s3_error("InternalError", "We encountered an internal error."), closes=True
    ),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was received."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        """GET, PUT, …"""
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        """Path and query."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def text(self) -> str:
        """The body, decompressed."""
        packed = self.body.startswith(b"\x1f\x8b")
        return (gzip.decompress(self.body) if packed else self.body).decode(errors="replace")


Fault = Named | Reply | Callable[[Request], Reply]
"""A function creates the reply for the given request."""
Matcher = Callable[[Request], bool]


@dataclass(slots=True)
class _Armed:
    """Faults for matching requests: first these in order, then the standing one, if any, until it is removed."""

    matches: Matcher
    faults: deque[Fault]
    standing: Fault | None = None


@dataclass(slots=True)
class _Broken(Exception):  # noqa: N818 - no error: the end of a connection
    """The connection is finished."""

    last: bytes = b""
    reset: bool = True


@dataclass(eq=False, slots=True)
class _Ends:
    client: asyncio.StreamReader
    answer: asyncio.StreamWriter
    upstream: asyncio.StreamReader
    onward: asyncio.StreamWriter


@dataclass(eq=False)
class HttpProxy:
    """The proxy, as an async context manager. It listens on `port`."""

    host: str
    upstream_port: int
    fired: list[str] = field(default_factory=list)
    """The faults that happened, by name."""
    port: int = 0
    _armed: list[_Armed] = field(default_factory=list)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, requests: str | Matcher, *faults: Fault) -> None:
        """Applies these faults in order to the next requests with this method, or to the next matching ones."""
        self._armed.append(_Armed(_matcher(requests), deque(faults)))

    def stand(self, requests: str | Matcher, fault: Fault) -> Callable[[], None]:
        """Applies the fault to every matching request, until the returned function is called."""
        armed = _Armed(_matcher(requests), deque(), fault)
        self._armed.append(armed)
        return lambda: self._armed.remove(armed)

    @property
    def counts(self) -> Counter[str]:
        """How often each fault happened."""
        return Counter(self.fired)

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            ends = _Ends(client, answer, *await asyncio.open_connection(self.host, self.upstream_port))
            try:
                while await self._exchange(ends):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            except _Broken as broken:
                answer.write(broken.last)
                with suppress(ConnectionError):
                    await answer.drain()
                if broken.reset:
                    _reset(answer)
            finally:
                ends.onward.close()
        except OSError:  # the upstream is down, so the client's connection is closed too
            _reset(answer)
        except asyncio.CancelledError:
            pass  # the proxy is closing; asyncio's streams would log this as an error
        finally:
            answer.close()
            self._tasks.discard(task)

    async def _exchange(self, ends: _Ends) -> bool:
        """Passes on one request and its reply. Returns False if the connection ends with them."""
        request = await _request(ends.client)
        fault = self._fault(request)
        if callable(fault):
            fault = fault(request)
        if fault is not None:
            self.fired.append(fault.name if isinstance(fault, Reply) else fault)
        head_only = request.method == "HEAD"
        if isinstance(fault, str) and fault in REPLIES:
            fault = REPLIES[fault]
        if isinstance(fault, Reply):
            if fault.closes:
                raise _Broken(fault.encode(head_only=head_only), reset=False)
            ends.answer.write(fault.encode(head_only=head_only))
            await ends.answer.drain()
            return True
        if fault == "reset":
            raise _Broken
        ends.onward.write(request.head)
        if fault == "partial":
            ends.onward.write(request.body[: len(request.body) // 2])
            await ends.onward.drain()
            _reset(ends.onward)
            raise _Broken
        ends.onward.write(request.body)
        await ends.onward.drain()
        reply, more = await _message(ends.upstream, head_only=head_only)
        await self._deliver(ends, reply, fault, head_only=head_only)
        return more

    async def _deliver(self, ends: _Ends, reply: bytes, fault: str | None, *, head_only: bool) -> None:
        if fault == "lost":
            raise _Broken
        if fault == "mistaken":
            raise _Broken(REPLIES["broken"].encode(head_only=head_only), reset=False)
        if fault == "cut":
            raise _Broken(reply[: len(reply) // 2])
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        ends.answer.write(reply)
        await ends.answer.drain()

    def _fault(self, request: Request) -> Fault | None:
        for armed in self._armed:
            if (armed.faults or armed.standing is not None) and armed.matches(request):
                return armed.faults.popleft() if armed.faults else armed.standing
        return None


def _matcher(requests: str | Matcher) -> Matcher:
    return requests if callable(requests) else lambda request: request.method == requests


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _request(stream: asyncio.StreamReader) -> Request:
    message, _ = await _message(stream)
    end = message.index(b"\r\n\r\n") + 4
    return Request(message[:end], message[end:])


async def _message(stream: asyncio.StreamReader, *, head_only: bool = False) -> tuple[bytes, bool]:
    """Reads a whole request or reply. Returns it, and whether the connection stays open. Bodies have a length or are chunked."""
    head = await stream.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    body = b""
    if head_only or b" 204 " in head[:16]:
        pass
    elif fields.get(b"transfer-encoding") == b"chunked":
        while not body.endswith(b"0\r\n\r\n") or (body != b"0\r\n\r\n" and not body.endswith(b"\r\n0\r\n\r\n")):
            body += await stream.readuntil(b"\r\n")
    else:
        body = await stream.readexactly(int(fields.get(b"content-length", 0)))
    return head + body, fields.get(b"connection") != b"close"
