"""An HTTP proxy for one upstream that breaks chosen exchanges, each once: what a network and an overloaded server do to a client.

reset       the connection is reset before the upstream sees the request
pass        nothing happens
unavailable the upstream does not see the request, the client gets a 503
lost        the upstream carries the request out, its reply is not delivered
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Literal, Self

Fault = Literal["pass", "reset", "unavailable", "lost"]

UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpFaults:
    """Use as an async context manager; `port` is where it listens. `arm` faults for requests whose first line begins with `method`."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._armed: dict[bytes, deque[Fault]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.fired: list[Fault] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, method: str, *faults: Fault) -> None:
        """Break the next requests of this method so, one after the other."""
        self._armed.setdefault(method.encode(), deque()).extend(faults)

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream, onward = await asyncio.open_connection(*self._upstream)
            try:
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    while await self._exchange(client, answer, upstream, onward):
                        pass
            finally:
                onward.close()
        finally:
            answer.close()
            self._tasks.discard(task)

    async def _exchange(
        self,
        client: asyncio.StreamReader,
        answer: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> bool:
        request, _ = await _message(client)
        method = request.split(b" ", 1)[0]
        armed = self._armed.get(method)
        fault = armed.popleft() if armed else None
        if fault is not None:
            self.fired.append(fault)
        if fault == "reset":
            answer.transport.abort()
            return False
        if fault == "unavailable":
            answer.write(UNAVAILABLE)
            await answer.drain()
            return False
        onward.write(request)
        await onward.drain()
        reply, more = await _message(upstream, head_only=method == b"HEAD")
        if fault == "lost":
            answer.transport.abort()
            return False
        answer.write(reply)
        await answer.drain()
        return more


async def _message(stream: asyncio.StreamReader, *, head_only: bool = False) -> tuple[bytes, bool]:
    """A whole request or reply, and whether the connection stays open. Bodies have a length, or come in chunks."""
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
