"""Faults of the network, peer by peer: connections are reset, black-holed, delayed, and cut in the middle of a response (matrix 9)."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from app.config.settings import S3Settings, SnowflakeSettings, SourceSettings
from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.instruments.background import BackgroundLoop
from tests.faults.instruments.kafka_proxy import KafkaProxy
from tests.faults.instruments.tcp_proxy import HOST, TcpProxy
from tests.faults.rows import routes
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually

FIRE_TIMEOUT_S: Final = 90.0
DELAY_S: Final = 0.2
Affects = Literal["alerts", "lake", "warehouse", "capture"]


@dataclass
class ProxiedPeer:
    """The proxy in front of one peer while a row runs. `make` creates the proxy, `attach` routes the peer's clients through it."""

    peer: str
    affects: Affects
    make: Callable[[Bank], TcpProxy]
    attach: Callable[[Bank, TcpProxy], AbstractContextManager[None]]
    wire: TcpProxy = field(init=False)
    background: BackgroundLoop = field(init=False)

    @contextmanager
    def around(self, bank: Bank) -> Iterator[None]:
        """Starts the proxy and waits until a client is connected through it."""
        with BackgroundLoop() as self.background:
            self.wire = self.background.enter(self.make(bank))
            with self.attach(bank, self.wire):
                eventually(
                    lambda: self.wire.connections > 0,
                    timeout_s=FIRE_TIMEOUT_S,
                    message=f"{self.peer}: nobody is on the wire",
                )
                yield

    def reset(self, _: Bank, __: random.Random) -> Firing:
        """Resets all open connections."""
        eventually(
            lambda: self.wire.connections > 0, timeout_s=FIRE_TIMEOUT_S, message=f"{self.peer}: nobody is on the wire"
        )
        count = self.background.call(self.wire.reset())
        if not count:
            raise NotFiredError(f"{self.peer}: no connection was open")
        return Firing(f"{self.peer}: {count} connections reset", time.time())

    def hold(self, seconds: float) -> Callable[[Bank, random.Random], Firing]:
        """Passes no data for `seconds`. Recovery is measured from the end."""

        def fire(_: Bank, __: random.Random) -> Firing:
            before = self.wire.fired["held"]
            self.background.call(self.wire.hold())
            try:
                threading.Event().wait(seconds)
            finally:
                self.background.call(self.wire.release())
            return self._proved("held", before, f"chunks held, for up to {seconds:.0f} s")

        return fire

    def delay(self, _: Bank, __: random.Random) -> Firing:
        """Delays all data by DELAY_S for 5 s. Recovery is measured from the end."""
        before = self.wire.fired["delayed"]
        self.background.call(self.wire.delay(DELAY_S))
        try:
            threading.Event().wait(5)
        finally:
            self.background.call(self.wire.delay(0))
        return self._proved("delayed", before, f"chunks delayed by {DELAY_S * 1000:.0f} ms")

    def cut(self, largest: int) -> Callable[[Bank, random.Random], Firing]:
        """Breaks a response off after a random number of bytes, at most `largest`."""

        def fire(_: Bank, chance: random.Random) -> Firing:
            after = chance.randint(1, largest)
            before = self.wire.fired["cut"]
            self.background.call(self.wire.cut(after))
            self._await("cut", before)
            return self._proved("cut", before, f"answers cut off behind byte {after}")

        return fire

    def answers(self, *kinds: str, lost: bool) -> Callable[[Bank, random.Random], Firing]:
        """Loses, or cuts off, Kafka's next response of one of these kinds, chosen at random."""

        def fire(_: Bank, chance: random.Random) -> Firing:
            assert isinstance(self.wire, KafkaProxy)
            kind = chance.choice(kinds)
            name = f"{kind} answer {'lost' if lost else 'cut'}"
            before = self.wire.fired[name]
            action = self.wire.lose_answer(kind) if lost else self.wire.cut_answer(kind, chance.randint(1, 200))
            self.background.call(action)
            self._await(name, before)
            return self._proved(name, before, name)

        return fire

    def _await(self, name: str, before: int) -> None:
        eventually(
            lambda: self.wire.fired[name] > before, timeout_s=FIRE_TIMEOUT_S,
            message=f"{self.peer}: nothing was {name} in {FIRE_TIMEOUT_S:.0f} s, only {dict(self.wire.fired)} happened",
        )  # fmt: skip

    def _proved(self, name: str, before: int, what: str) -> Firing:
        count = self.wire.fired[name] - before
        if not count:
            raise NotFiredError(f"{self.peer}: nothing was {name}")
        return Firing(f"{self.peer}: {count} {what}", time.time())


def _bootstrap(wire: TcpProxy) -> str:
    return f"{HOST}:{wire.port}"


def _kafka(bank: Bank) -> TcpProxy:
    return KafkaProxy(int(bank.kafka.bootstrap_servers.rpartition(":")[2]))


def _s3(bank: Bank) -> TcpProxy:
    return TcpProxy(urlsplit(settings_of(bank.environment, S3Settings).endpoint_url or "").port or 0)


def _one_of_each(bank: Bank, wire: TcpProxy) -> AbstractContextManager[None]:
    """One worker of each kind is connected through the proxy. While it is cut off, another streams worker may take its partitions over."""
    names = ["streams-1", "lake-1", "warehouse-1"]
    return routes.workers(bank, names, {"BANKSTREAM_KAFKA_BOOTSTRAP_SERVERS": _bootstrap(wire)})


def _connect(bank: Bank, wire: TcpProxy) -> AbstractContextManager[None]:
    """Routes the clients of the connector's task through the proxy: its transactional producer, and those that store its offsets."""
    return routes.capture(
        bank, {f"{client}.override.bootstrap.servers": _bootstrap(wire) for client in ("producer", "consumer", "admin")}
    )


KAFKA: Final = ProxiedPeer("Kafka", "alerts", _kafka, _one_of_each)
CONNECT: Final = ProxiedPeer("Kafka, for Connect", "capture", _kafka, _connect)
POSTGRES: Final = ProxiedPeer(
    "PostgreSQL, for Debezium", "capture",
    lambda bank: TcpProxy(settings_of(bank.environment, SourceSettings).port),
    lambda bank, wire: routes.capture(bank, {"database.port": str(wire.port)}),
)  # fmt: skip
S3: Final = ProxiedPeer(
    "S3", "lake", _s3,
    lambda bank, wire: routes.workers(bank, ["lake-1", "warehouse-1"], {"BANKSTREAM_S3_ENDPOINT_URL": f"http://{_bootstrap(wire)}"}),
)  # fmt: skip
WAREHOUSE: Final = ProxiedPeer(
    "warehouse", "warehouse",
    lambda bank: TcpProxy(settings_of(bank.environment, SnowflakeSettings).port),
    lambda bank, wire: routes.workers(bank, ["warehouse-1"], {"BANKSTREAM_SNOWFLAKE_PORT": str(wire.port)}),
)  # fmt: skip

SHORT_S, LONG_S = 3.0, 12.0
"""Durations of a black hole, shorter and longer than the session timeout of the consumer group."""


def _row(
    line: ProxiedPeer, kind: str, does: str, fire: Callable[[Bank, random.Random], Firing], times: int = 2
) -> Fault:
    peer = {"Kafka, for Connect": "connect", "PostgreSQL, for Debezium": "postgres"}.get(line.peer, line.peer.lower())
    return Fault(
        f"{peer}-{kind}", 9, f"{line.peer}: {does}", "clients reconnect and continue; no data of requests in progress is lost",
        fire, times=times, affects=line.affects, around=line.around,
    )  # fmt: skip


def _everywhere(line: ProxiedPeer) -> tuple[Fault, ...]:
    return (
        _row(line, "reset", "all connections are reset", line.reset, times=3),
        _row(line, "black-hole", f"no data passes for {SHORT_S:.0f} s, then it arrives late", line.hold(SHORT_S)),
        _row(line, "delay", f"all data is delayed by {DELAY_S * 1000:.0f} ms in each direction", line.delay, times=1),
    )


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _kafka_only(line: ProxiedPeer) -> tuple[Fault, ...]:
    cut, lost = ("Fetch", "Produce", "EndTxn"), ("EndTxn", "AddPartitionsToTxn", "Produce")
    return (
        _row(line, "cut", f"a response to {_either(cut)} is cut off", line.answers(*cut, lost=False), times=4),
        _row(line, "answer-lost", f"a response to {_either(lost)} is lost", line.answers(*lost, lost=True), times=4),
    )


def _cut(line: ProxiedPeer, largest: int) -> Fault:
    return _row(line, "cut", f"a response is cut off within {largest} bytes", line.cut(largest), times=4)


ROWS = (
    *_everywhere(KAFKA), *_kafka_only(KAFKA), *_everywhere(CONNECT), *_kafka_only(CONNECT),
    *_everywhere(POSTGRES), _cut(POSTGRES, 60_000), *_everywhere(S3), _cut(S3, 400), *_everywhere(WAREHOUSE), _cut(WAREHOUSE, 2_000),
    _row(
        KAFKA, "cut-off",
        f"a worker of each kind has no contact for {LONG_S:.0f} s: others take over its partitions, its requests arrive late",
        KAFKA.hold(LONG_S), times=1,
    ),
    _row(POSTGRES, "cut-off", f"no data passes for {LONG_S:.0f} s", POSTGRES.hold(LONG_S), times=1),
)  # fmt: skip
