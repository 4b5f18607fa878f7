"""Faults of S3 and the warehouse: errors of an overloaded server, and lost replies to requests that were carried out (10, 11)."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from app.config.settings import S3Settings, SnowflakeSettings
from tests.faults.bank import Bank
from tests.faults.fault import Fault, Firing, NotFiredError
from tests.faults.instruments import snowflake_answers as snowflake
from tests.faults.instruments.background import BackgroundLoop
from tests.faults.rows import routes
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually
from tests.support.web.http_faults import Fault as HttpFault
from tests.support.web.http_faults import HttpProxy, Matcher

FIRE_TIMEOUT_S: Final = 90.0
OUTAGE_S: Final = 15.0
UNKNOWN: Final = "bankstream_warehouse_unknown_outcomes_total "

Fire = Callable[[Bank, random.Random], Firing]


@dataclass
class ProxiedServer:
    """A real server behind a proxy that injects faults into its exchanges while a row runs."""

    name: str
    affects: Literal["lake", "warehouse"]
    address: Callable[[Bank], tuple[str, int]]
    users: tuple[str, ...]
    settings: Callable[[int], Mapping[str, str]]
    """The clients' settings for a port of the proxy."""
    proxy: HttpProxy = field(init=False)

    @contextmanager
    def around(self, bank: Bank) -> Iterator[None]:
        """Routes the server's clients through the proxy."""
        with BackgroundLoop() as background:
            self.proxy = background.enter(HttpProxy(*self.address(bank)))
            with routes.workers(bank, self.users, self.settings(self.proxy.port)):
                yield

    def breaks(self, matches: str | Matcher, *choices: tuple[HttpFault, ...]) -> Fire:
        """Applies one of these sequences of faults, chosen at random, to the next matching requests."""

        def fire(_: Bank, chance: random.Random) -> Firing:
            faults, before = chance.choice(choices), len(self.proxy.fired)
            self.proxy.arm(matches, *faults)
            return self._proved(before, len(faults))

        return fire

    def outage(self, fault: HttpFault) -> Fire:
        """Applies the fault to every request for OUTAGE_S. Recovery is measured from the end."""

        def fire(_: Bank, __: random.Random) -> Firing:
            before = len(self.proxy.fired)
            end = self.proxy.stand(lambda _: True, fault)
            try:
                threading.Event().wait(OUTAGE_S)
            finally:
                end()
            return self._proved(before, 1)

        return fire

    def _proved(self, before: int, count: int) -> Firing:
        eventually(
            lambda: len(self.proxy.fired) >= before + count, timeout_s=FIRE_TIMEOUT_S,
            message=f"{self.name}: only {self.proxy.fired[before:]} happened in {FIRE_TIMEOUT_S:.0f} s, not {count} faults",
        )  # fmt: skip
        fired = self.proxy.fired[before:]
        return Firing(f"{self.name}: {len(fired)} requests met {', '.join(dict.fromkeys(fired))}", time.time())


def _s3(bank: Bank) -> tuple[str, int]:
    endpoint = urlsplit(settings_of(bank.environment, S3Settings).endpoint_url or "")
    return endpoint.hostname or "", endpoint.port or 0


def _warehouse(bank: Bank) -> tuple[str, int]:
    settings = settings_of(bank.environment, SnowflakeSettings)
    return settings.host or "", settings.port


S3: Final = ProxiedServer(
    "S3", "lake", _s3, ("lake-1", "warehouse-1"), lambda port: {"BANKSTREAM_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}"},
)  # fmt: skip
WAREHOUSE: Final = ProxiedServer(
    "warehouse", "warehouse", _warehouse, ("warehouse-1",),
    lambda port: {"BANKSTREAM_SNOWFLAKE_PORT": str(port), "BANKSTREAM_SNOWFLAKE_NETWORK_TIMEOUT_S": "5"},
)  # fmt: skip

LOAD: Final = snowflake.statement("BEGIN", "UPDATE", "COPY")
COMMIT: Final = snowflake.statement("COMMIT")


def _unknown_commit(bank: Bank, _: random.Random) -> Firing:
    """Loses every response to COMMIT until the connector gives up on one. Then only the ledger has the outcome."""
    name, proxy = WAREHOUSE.users[0], WAREHOUSE.proxy
    known, before = _unknown(bank, name), len(proxy.fired)
    end = proxy.stand(COMMIT, "lost")
    try:
        eventually(
            lambda: _unknown(bank, name) > known, timeout_s=2 * FIRE_TIMEOUT_S,
            message=f"{name} did not give up on a commit; {proxy.fired[before:]} happened",
        )  # fmt: skip
    finally:
        end()
    lost = len(proxy.fired) - before
    if not lost:
        raise NotFiredError(f"{name}: no answer to a COMMIT was lost")
    return Firing(f"warehouse: {lost} answers to COMMIT lost, and one outcome was unknown to {name}", time.time())


def _unknown(bank: Bank, name: str) -> float:
    """How many commits with an unknown outcome the worker has counted."""
    lines = [line for line in bank.workers.metrics(name).splitlines() if line.startswith(UNKNOWN)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def _expired(bank: Bank, chance: random.Random) -> Firing:
    """Lets the session token expire in the middle of a load, and renews it."""
    del bank
    proxy, before = WAREHOUSE.proxy, len(WAREHOUSE.proxy.fired)
    where = chance.choice(("BEGIN", "UPDATE", "COPY", "COMMIT"))
    proxy.arm(snowflake.renewal, snowflake.renewed("a renewed token"))
    proxy.arm(snowflake.statement(where), snowflake.failure(snowflake.SESSION_EXPIRED, f"390112 at {where}"))
    return WAREHOUSE._proved(before, 2)


def _row(server: ProxiedServer, number: int, kind: str, does: str, holds: str, fire: Fire, times: int = 3) -> Fault:
    return Fault(
        f"{server.affects if server is WAREHOUSE else 's3'}-{kind}", number, f"{server.name}: {does}", holds, fire,
        times=times, affects=server.affects, around=server.around,
    )  # fmt: skip


AGAIN: Final = "the request is repeated; a PUT whose name is taken finds its own object there"
UNDONE: Final = "the whole load is rolled back and repeated; the ledger decides"

ROWS = (
    _row(
        S3, 10, "throttled", "429 and 503 Slow Down as replies to PUT", AGAIN,
        S3.breaks("PUT", ("throttled",) * 2, ("unavailable",) * 2, ("throttled", "unavailable", "throttled")),
    ),
    _row(
        S3, 10, "broken", "500 as the reply to PUT, before and after the object is stored", AGAIN,
        S3.breaks("PUT", ("broken", "broken"), ("mistaken",), ("broken", "mistaken", "mistaken")),
    ),
    _row(
        S3, 10, "put-reset", "connections are reset before a PUT and in the middle of its body", AGAIN,
        S3.breaks("PUT", ("reset", "reset"), ("partial",), ("partial", "reset", "partial")),
    ),
    _row(
        S3, 10, "reply-lost", "an object is stored, and the reply is lost", AGAIN,
        S3.breaks("PUT", ("lost",), ("lost", "lost"), ("lost", "cut")),
    ),
    _row(S3, 10, "slow", "replies come two seconds late", "only time is lost", S3.breaks("PUT", ("slow",) * 4), times=1),
    _row(
        S3, 10, "outage", f"503 as the reply to all requests for {OUTAGE_S:.0f} s",
        "workers wait, or exit and restart; all is archived later",
        S3.outage("unavailable"), times=1,
    ),
    _row(
        WAREHOUSE, 11, "execute-error", "a statement of a load fails with an internal error", UNDONE,
        WAREHOUSE.breaks(LOAD, (snowflake.failure(snowflake.INTERNAL, "error 000603"),)),
    ),
    _row(
        WAREHOUSE, 11, "overloaded", "500 and 503 as replies to statements of a load", "the connector repeats them",
        WAREHOUSE.breaks(LOAD, ("unavailable",), ("broken",), ("broken", "unavailable")),
    ),
    _row(
        WAREHOUSE, 11, "commit-error", "COMMIT fails with an internal error, and nothing was committed", UNDONE,
        WAREHOUSE.breaks(COMMIT, (snowflake.failure(snowflake.INTERNAL, "error 000603 at COMMIT"),)),
    ),
    _row(
        WAREHOUSE, 11, "commit-reply-lost", "a load is committed, and the first reply is lost",
        "the connector repeats the request with the same id",
        WAREHOUSE.breaks(COMMIT, ("lost",), ("cut",)),
    ),
    _row(
        WAREHOUSE, 11, "commit-unknown", "a load is committed, and every reply is lost", "the ledger has the load; it is loaded once",
        _unknown_commit, times=2,
    ),
    _row(
        WAREHOUSE, 11, "token-expired", "the session token expires at a statement of a load (390112)",
        "it is renewed, and the load continues",
        _expired,
    ),
    _row(
        WAREHOUSE, 11, "login-expired",
        "the session is gone or the master token has expired at a statement of a load (390111, 390114)", UNDONE,
        WAREHOUSE.breaks(
            snowflake.statement("BEGIN", "UPDATE", "COPY", "COMMIT"),
            (snowflake.failure(snowflake.MASTER_EXPIRED, "390114"),), (snowflake.failure(snowflake.SESSION_GONE, "390111"),),
        ),
    ),
    _row(
        WAREHOUSE, 11, "outage", f"503 as the reply to all requests for {OUTAGE_S:.0f} s", UNDONE,
        WAREHOUSE.outage("unavailable"), times=1,
    ),
)  # fmt: skip
