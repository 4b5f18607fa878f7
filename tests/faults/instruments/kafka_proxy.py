"""A TCP proxy for a Kafka broker that replaces the advertised address in responses, so that clients stay on the proxy.

A Kafka client asks its bootstrap server for the brokers' addresses and connects to those, so a plain proxy would see only the first
request. This proxy parses frames (size, then api key, version and correlation id) and replaces the advertised address in the responses to
the three requests that return brokers. It changes nothing else. It can also drop the responses of one kind of request: without the
response of EndTxn, the client does not know the outcome of its commit.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from tests.faults.instruments.tcp_proxy import HOST, CutError, Filter, TcpProxy

API: Final = {"Produce": 0, "Fetch": 1, "Metadata": 3, "OffsetCommit": 8, "FindCoordinator": 10, "JoinGroup": 11, "Heartbeat": 12,
              "InitProducerId": 22, "AddPartitionsToTxn": 24, "EndTxn": 26, "DescribeCluster": 60}  # fmt: skip
NAMING: Final = frozenset({API["Metadata"], API["FindCoordinator"], API["DescribeCluster"]})


class Frames:
    """Splits a byte stream into whole frames, size included, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Adds bytes and returns the frames that are complete."""
        self._rest += data
        while len(self._rest) >= 4:
            end = 4 + int.from_bytes(self._rest[:4], "big")
            if len(self._rest) < end:
                return
            frame, self._rest = self._rest[:end], self._rest[end:]
            yield frame


class KafkaProxy(TcpProxy):
    """The proxy of one broker. Clients bootstrap from `port`."""

    def __init__(self, port: int, host: str = HOST) -> None:
        super().__init__(port, host)
        self._advertised = _address(host, port)
        self._losses: Counter[int] = Counter()
        self._breaks: dict[int, list[int]] = {}
        self.seen: Counter[str] = Counter()
        """Number of responses by kind of request."""

    async def lose_answer(self, api: str, times: int = 1) -> None:
        """Resets the connection in place of each of the next `times` responses of this kind. The broker has executed the request."""
        self._losses[API[api]] += times

    async def cut_answer(self, api: str, *after_bytes: int) -> None:
        """Cuts the next responses of this kind, each after one of these numbers of bytes, or earlier if it is not longer."""
        self._breaks.setdefault(API[api], []).extend(after_bytes)

    def filters(self) -> tuple[Filter, Filter]:
        """The filters of a connection, which match each response to its request."""
        asked: dict[int, int] = {}
        return _Requests(asked), _Answers(self, asked)

    def answer(self, api: int, frame: bytes) -> bytes:
        """The bytes to send to the client for a response."""
        name = _NAMES.get(api, str(api))
        self.seen[name] += 1
        if self._losses[api] > 0:
            self._losses[api] -= 1
            raise CutError(f"{name} answer lost")
        if self._breaks.get(api):
            end = min(self._breaks[api].pop(0), len(frame) - 1)
            raise CutError(f"{name} answer cut", frame[:end])
        return frame.replace(self._advertised, _address(HOST, self.port)) if api in NAMING else frame


class _Requests:
    def __init__(self, asked: dict[int, int]) -> None:
        self._frames, self._asked = Frames(), asked

    def feed(self, data: bytes) -> Iterable[bytes]:
        for frame in self._frames.feed(data):
            api, _, correlation = struct.unpack_from(">hhi", frame, 4)
            self._asked[correlation] = api
            yield frame


class _Answers:
    def __init__(self, wire: KafkaProxy, asked: dict[int, int]) -> None:
        self._frames, self._wire, self._asked = Frames(), wire, asked

    def feed(self, data: bytes) -> Iterable[bytes]:
        for frame in self._frames.feed(data):
            (correlation,) = struct.unpack_from(">i", frame, 4)
            yield self._wire.answer(self._asked.pop(correlation), frame)


_NAMES = {number: name for name, number in API.items()}


def _address(host: str, port: int) -> bytes:
    """The encoding of a broker's address, equal in all versions of the protocol: the host's bytes, then the port in four bytes."""
    return host.encode() + struct.pack(">i", port)
