"""Tests that the HTTP proxy breaks only the chosen exchanges, and that the upstream receives the expected requests."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.support.machine.waiting import until
from tests.support.web.http_faults import HttpProxy, Named, Reply

BODY = b"0123456789" * 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nit is done"


@dataclass
class Upstream:
    """Records complete requests, and the number of bytes of incomplete ones."""

    whole: list[bytes] = field(default_factory=list)
    partial: list[int] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                try:
                    self.whole.append(await reader.readexactly(len(BODY)))
                except asyncio.IncompleteReadError as cut:
                    self.partial.append(len(cut.partial))
                    raise
                except ConnectionError:
                    self.partial.append(-1)
                    raise
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def faults(upstream: Upstream) -> AsyncIterator[HttpProxy]:
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    async with HttpProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


async def put(faults: HttpProxy, name: str = "a") -> bytes:
    """The response, or the part of it that arrived before the connection broke."""
    reader, writer = await asyncio.open_connection("127.0.0.1", faults.port)
    writer.write(f"PUT /{name} HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
    got = b""
    try:
        while len(got) < len(OK) and (chunk := await reader.read(1)):
            got += chunk
    except ConnectionResetError:
        got += b"<reset>"
    finally:
        writer.close()
    return got


@pytest.mark.parametrize(
    ("fault", "begins", "carried_out"),
    [
        ("pass", OK, True),
        ("reset", b"<reset>", False),
        ("partial", b"<reset>", False),
        ("unavailable", b"HTTP/1.1 503 ", False),
        ("throttled", b"HTTP/1.1 429 ", False),
        ("broken", b"HTTP/1.1 500 ", False),
        ("lost", b"<reset>", True),
        ("mistaken", b"HTTP/1.1 500 ", True),
        ("cut", OK[: len(OK) // 2] + b"<reset>", True),
    ],
)
async def test_each_fault_happens_once_and_is_counted(
    faults: HttpProxy, upstream: Upstream, fault: Named, begins: bytes, *, carried_out: bool
) -> None:
    faults.arm("PUT", fault)
    assert (await put(faults)).startswith(begins)
    assert upstream.whole == ([BODY] if carried_out else [])
    assert await put(faults) == OK
    assert faults.fired == [fault]


async def test_the_partial_fault_passes_half_of_the_body(faults: HttpProxy, upstream: Upstream) -> None:
    faults.arm("PUT", "partial")
    await put(faults)
    await until(lambda: upstream.partial, timeout_s=5)
    assert upstream.partial in ([len(BODY) // 2], [-1])
    assert not upstream.whole


async def test_only_matching_requests_get_the_fault_and_a_reply_may_depend_on_the_request(faults: HttpProxy) -> None:
    faults.arm(
        lambda request: request.target == "/b",
        lambda request: Reply("200 OK", f"no {request.method} of {len(request.text)}".encode(), name="refused"),
    )
    assert await put(faults, "a") == OK
    assert b"refused" not in await put(faults, "a")
    assert (await put(faults, "b")).startswith(b"HTTP/1.1 200 OK\r\nContent-Type")
    assert faults.fired == ["refused"]


async def test_a_standing_fault_lasts_until_it_is_removed(faults: HttpProxy) -> None:
    end = faults.stand("PUT", "broken")
    assert [(await put(faults))[9:12] for _ in range(3)] == [b"500"] * 3
    end()
    assert await put(faults) == OK
    assert faults.counts == {"broken": 3}
