"""Tests that each fault of the TCP proxy has its effect on real sockets and is counted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.instruments.tcp_proxy import HOST, TcpProxy
from tests.support.machine.waiting import until

CHUNK = b"x" * 1000
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def wire() -> AsyncIterator[TcpProxy]:
    """A proxy in front of a peer that echoes all data."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with TcpProxy(server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


@pytest.fixture
async def ends(wire: TcpProxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection(HOST, wire.port)
    yield reader, writer
    writer.close()


async def ask(ends: Ends, question: bytes) -> bytes:
    ends[1].write(question)
    return await ends[0].readexactly(len(question))


async def test_a_proxy_without_faults_passes_everything_in_both_directions(wire: TcpProxy, ends: Ends) -> None:
    assert await ask(ends, CHUNK * 5_000) == CHUNK * 5_000
    ends[1].write_eof()
    assert await ends[0].read() == b""
    assert not wire.fired


async def test_a_reset_sends_an_rst_and_the_next_connection_works(wire: TcpProxy, ends: Ends) -> None:
    await ask(ends, b"hello")
    assert await wire.reset() == 1
    with pytest.raises(ConnectionResetError):
        await ends[0].read(1)
    again = await asyncio.open_connection(HOST, wire.port)
    assert await ask(again, b"hello") == b"hello"
    again[1].close()
    assert wire.fired == {"reset": 1}


async def test_a_black_hole_passes_no_data_and_delivers_it_late(wire: TcpProxy, ends: Ends) -> None:
    await ask(ends, b"hello")
    await wire.hold()
    ends[1].write(b"late")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ends[0].readexactly(4), 0.1)
    assert wire.fired["held"] == 1
    await wire.release()
    assert await ends[0].readexactly(4) == b"late"


async def test_a_disconnect_during_a_black_hole_is_noticed_after_the_release(wire: TcpProxy) -> None:
    _, writer = await asyncio.open_connection(HOST, wire.port)
    await wire.hold()
    writer.write(b"last words")
    writer.transport.abort()
    await asyncio.sleep(0.1)  # there is no condition to wait for: nothing should happen
    assert len(wire._links) == 1
    await wire.release()
    await until(lambda: not wire._links, timeout_s=5)


async def test_a_delay_applies_to_each_chunk_and_does_not_add_up(wire: TcpProxy, ends: Ends) -> None:
    await wire.delay(0.1)
    clock = asyncio.get_running_loop().time
    begin = clock()
    assert await ask(ends, CHUNK * 1_000) == CHUNK * 1_000
    assert 0.2 <= clock() - begin < 2.0
    assert wire.fired["delayed"] >= 2


async def test_a_cut_ends_the_response_after_the_byte(wire: TcpProxy, ends: Ends) -> None:
    await ask(ends, b"hello")
    await wire.cut(7, 3)
    ends[1].write(CHUNK)
    assert await ends[0].readexactly(7) == CHUNK[:7]
    with pytest.raises(ConnectionResetError):
        await ends[0].read(1)
    assert wire.fired == {"cut": 1}
    again = await asyncio.open_connection(HOST, wire.port)
    again[1].write(CHUNK)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await again[0].readexactly(4)
    again[1].close()


async def test_a_connection_is_closed_if_the_peer_is_down(wire: TcpProxy) -> None:
    wire._peer = (HOST, 1)
    reader, writer = await asyncio.open_connection(HOST, wire.port)
    assert await reader.read() == b""
    writer.close()
