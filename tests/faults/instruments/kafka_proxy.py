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
    """Whole frames, size included, out of whatever pieces they came in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete."""
        self._rest += data
        while len(self._rest) >= 4:
            end = 4 + int.from_bytes(self._rest[:4], "big")
            if len(self._rest) < end:
                return
            frame, self._rest = self._rest[:end], self._rest[end:]
            yield frame


class KafkaProxy(TcpProxy):
    """One broker's wire. `port` is what clients bootstrap from."""

    def __init__(self, port: int, host: str = HOST) -> None:
        super().__init__(port, host)
        self._advertised = _address(host, port)
        self._losses: Counter[int] = Counter()
        self._breaks: dict[int, list[int]] = {}
        self.seen: Counter[str] = Counter()
        """Answers of each kind that came by."""

    async def lose_answer(self, api: str, times: int = 1) -> None:
        """Reset the connection instead of passing on an answer of this kind: the broker has carried the request out."""
        self._losses[API[api]] += times

    async def cut_answer(self, api: str, *after_bytes: int) -> None:
        """Break the next answers of this kind off after so many bytes (fewer, if they are no longer than that)."""
        self._breaks.setdefault(API[api], []).extend(after_bytes)

    def filters(self) -> tuple[Filter, Filter]:
        """A pair that knows which answer belongs to which request."""
        asked: dict[int, int] = {}
        return _Requests(asked), _Answers(self, asked)

    def answer(self, api: int, frame: bytes) -> bytes:
        """What to pass on for an answer."""
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
    """How every version of the protocol writes a broker down: the host's bytes, then its port in four."""
    return host.encode() + struct.pack(">i", port)
