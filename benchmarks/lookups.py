"""Measures the latency of lookups and their cost to the stream: `python -m benchmarks.lookups --rate 500 --lookups 100`.

The stack has PostgreSQL, Kafka, Connect with Debezium and one streams worker; with `--everything` also S3, the warehouse and its workers.
The bank makes `--rate` transactions a second. Periods with and without lookups alternate, so that other load on the machine affects both.
A separate process sends lookups at fixed times, regardless of earlier replies (with `--lookups 0`, as fast as `--connections` allow). Each
is timed from the moment at which it was due. Before any output, the benchmark checks that every reply was 200 and for the requested key,
and that after the load has stopped the replies equal PostgreSQL's rows. Exit code 1 if a check fails.
"""

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import psutil

from app.config.settings import KafkaSettings, SourceSettings, read
from app.config.topics import ALERTS, VELOCITY
from app.domain.records import Source
from app.domain.times import parse_us
from app.engine.committed_reader import committed_consumer
from app.local.demo.simulator_process import SimulatorProcess
from app.local.stack.part import BACKENDS, WORKERS, Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import CONNECTOR, DEFAULT, SOURCE, TOPICS
from app.proof.reconcile import barrier
from benchmarks.figures import percentile, percentiles, say
from tests.support.machine.clients import admin_query
from tests.support.machine.stack import private_stack

PATH_OF_THE_STREAM: Final = frozenset({Part.POSTGRES, Part.KAFKA, Part.CONNECT, Part.STREAMS})
KINDS: Final = ("customers/{}", "accounts/{}", "customers/{}/velocity")
OPENING_S: Final = 1.0
"""The length of the bank's opening run, which creates customers, accounts and their history."""
OPENING_TIMEOUT_S: Final = 150.0
IDLE_S: Final = 3.0
"""After this time without a record, everything has arrived."""
WARM_UP_S: Final = 5.0
SETTLE_S: Final = 3.0
"""The start of each period that is not measured."""
ANSWER_TIMEOUT_S: Final = 30.0
REST_TIMEOUT_S: Final = 180.0
COLUMNS: Final = {"customers": ("risk_rating", "kyc_status"), "accounts": ("balance", "status")}
QUERIES: Final = {
    "customers": "SELECT risk_rating, kyc_status FROM customers WHERE customer_id = %s",
    "accounts": "SELECT balance::text, status FROM accounts WHERE account_id = %s",
}
CHECKED: Final = 50
GONE: Final = "gone"
"""The bank sometimes deletes customers; then 410 is correct."""
RATE_LIMIT: Final = "1000000"
"""The rate limit of a token, high enough that no request is rejected."""


class _Sourced(msgspec.Struct):
    source: Source


@dataclass(frozen=True)
class Plan:
    """The lookups of one period. `per_s` 0: as fast as the connections allow."""

    url: str
    token: str = field(repr=False)
    customers: tuple[int, ...]
    accounts: tuple[int, ...]
    seconds: float
    per_s: int
    connections: int
    seed: int


@dataclass
class Asked:
    """The results of the lookups of one period: durations in ms by kind, and errors."""

    took_ms: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    wrong: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """The paths that were answered with 410."""
    seconds: float = 0.0


@dataclass
class Period:
    """The measurements of the stream in one period."""

    lookups: bool
    seconds: float = 0.0
    records: int = 0
    """The number of committed velocity records, one for each change of a transaction."""
    velocity_ms: list[float] = field(default_factory=list)
    """The time from the commit in PostgreSQL until the record was read from Kafka."""
    alert_ms: list[float] = field(default_factory=list)
    worker_cpu_s: float = 0.0
    asked: Asked | None = None
    load: float = 0.0
    """The machine's one-minute load average at the end of the period."""


# -- who asks ---------------------------------------------------------------------------------------------------------


def ask(plan: Plan) -> Asked:
    """Sends the lookups of a period. Runs in a separate process."""
    return asyncio.run(_ask(plan))


async def _ask(plan: Plan) -> Asked:
    found, began, number = Asked(), time.perf_counter(), 0
    rng = random.Random(plan.seed)
    headers = {"Authorization": f"Bearer {plan.token}"}
    async with aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
    ) as session:

        async def one() -> None:
            nonlocal number
            while True:
                due = began + number / plan.per_s if plan.per_s else time.perf_counter()
                number += 1
                if due - began > plan.seconds:
                    return
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                kind = rng.choice(KINDS)
                key = rng.choice(plan.customers if kind.startswith("customers") else plan.accounts)
                wrong = await _wrong(session, f"{plan.url}/v1/{kind.format(key)}", key)
                found.took_ms[kind].append((time.perf_counter() - due) * 1_000)
                if wrong == GONE:
                    found.gone.add(kind.format(key))
                elif wrong:
                    found.wrong.append(wrong)

        await asyncio.gather(*(one() for _ in range(plan.connections)))
    found.seconds = time.perf_counter() - began
    return found


async def _wrong(session: aiohttp.ClientSession, url: str, key: int) -> str | None:
    """Returns the error of a reply, or None."""
    try:
        async with session.get(url) as answer:
            body = await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{url}: {error!r}"
    if answer.status == 410:
        return GONE
    if answer.status != 200:
        return f"{url}: {answer.status} {body[:200]!r}"
    document = msgspec.json.decode(body)
    return None if document.get("id", document.get("customer_id")) == key else f"{url}: another key's answer"


# -- who watches ------------------------------------------------------------------------------------------------------


class Observer:
    """Reads the committed outputs of the stream into the current period."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._settings = read(KafkaSettings, environment)
        self.period: Period | None = None
        self.last_seen = math.inf
        """The time of the last record (`time.monotonic()`)."""

    async def run(self) -> None:
        """Reads until it is cancelled."""
        partitions = await barrier.partitions_of(self._settings, [ALERTS.name, VELOCITY.name])
        decoder = msgspec.json.Decoder(_Sourced)
        async with committed_consumer(self._settings) as consumer:
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            while True:
                found = await consumer.getmany(timeout_ms=20)
                now_us, period = time.time_ns() // 1_000, self.period
                if found:
                    self.last_seen = time.monotonic()
                if period is None:
                    continue
                for partition, records in found.items():
                    took = [
                        (now_us - parse_us(decoder.decode(record.value).source.commit_time)) / 1_000
                        for record in records
                    ]
                    if partition.topic == ALERTS.name:
                        period.alert_ms += took
                    else:
                        period.velocity_ms += took
                        period.records += len(took)


async def watched(stack: Stack, observer: Observer, period: Period, plan: Plan, pool: ProcessPoolExecutor) -> Period:
    """Runs one period, with or without lookups."""
    loop = asyncio.get_running_loop()
    asking = loop.run_in_executor(pool, ask, plan) if period.lookups else None
    await asyncio.sleep(SETTLE_S)
    worker = psutil.Process(stack.pid("streams-1"))
    before, began = worker.cpu_times(), time.monotonic()
    observer.period = period
    await asyncio.sleep(plan.seconds - SETTLE_S)
    observer.period = None
    after, period.seconds = worker.cpu_times(), time.monotonic() - began
    period.worker_cpu_s = after.user + after.system - before.user - before.system
    period.asked = await asking if asking is not None else None
    period.load = os.getloadavg()[0]
    say(_brief(period))
    return period


# -- a run --------------------------------------------------------------------------------------------------------------


async def run(stack: Stack, chosen: argparse.Namespace, log: Path) -> dict[str, Any]:
    """Runs all periods on this stack. Returns the figures."""
    environment = stack.environment()
    held: dict[str, float] = {}
    observer, bank = Observer(environment), SimulatorProcess(environment, log, chosen.rate, 8)
    observing = asyncio.create_task(observer.run())
    await opened(environment, observer, chosen.rate, log)
    await bank.start()
    tasks = [asyncio.create_task(bank.run(held.update)), observing]
    periods: list[Period] = []
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            await asyncio.sleep(WARM_UP_S)
            customers, accounts = _keys(environment)
            for number in range(chosen.pairs * 2):
                plan = Plan(
                    environment["BANKSTREAM_LOOKUP_URL"], environment["BANKSTREAM_LOOKUP_TOKEN"], customers, accounts,
                    chosen.seconds, chosen.lookups, chosen.connections, number,
                )  # fmt: skip
                lookups = number % 4 in (1, 2)  # without, with, with, without: a drift falls on both
                periods.append(await watched(stack, observer, Period(lookups), plan, pool))
                if any(task.done() for task in tasks):
                    break
    finally:
        await bank.stop()
        ended = await asyncio.gather(tasks[0], _ended(tasks[1]), return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException):
            raise error
    gone = {path for period in periods if period.asked is not None for path in period.asked.gone}
    return judge(periods, chosen, held, await at_rest(environment, customers, accounts, gone))


async def opened(environment: Mapping[str, str], observer: Observer, rate: int, log: Path) -> None:
    """Creates a bank with a history, and waits until the stream has processed it."""
    opening = SimulatorProcess(environment, log, rate, 7, seconds=OPENING_S)
    await opening.start()
    await opening.run(lambda _: None)
    deadline = time.monotonic() + OPENING_TIMEOUT_S
    while time.monotonic() - observer.last_seen < IDLE_S:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stream did not process the bank's history within {OPENING_TIMEOUT_S:.0f} s")
        await asyncio.sleep(0.2)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _keys(environment: Mapping[str, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    settings = read(SourceSettings, environment)
    return tuple(row[0] for row in admin_query(settings, "SELECT customer_id FROM customers")), tuple(
        row[0] for row in admin_query(settings, "SELECT account_id FROM accounts")
    )


async def at_rest(
    environment: Mapping[str, str], customers: tuple[int, ...], accounts: tuple[int, ...], gone: set[str]
) -> list[str]:
    """Compares a sample, and all paths answered with 410, with PostgreSQL after the stream has caught up. Returns the differences."""
    settings, rng = read(SourceSettings, environment), random.Random(1)
    paths = {f"customers/{key}" for key in rng.sample(customers, min(CHECKED, len(customers)))} | {
        f"accounts/{key}" for key in rng.sample(accounts, min(CHECKED, len(accounts)))
    }
    headers = {"Authorization": f"Bearer {environment['BANKSTREAM_LOOKUP_TOKEN']}"}
    deadline = time.monotonic() + REST_TIMEOUT_S
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            differ = []
            for path in sorted(paths | gone):
                table, key = path.split("/")
                rows = admin_query(settings, QUERIES[table], int(key))
                async with session.get(f"{environment['BANKSTREAM_LOOKUP_URL']}/v1/{path}") as answer:
                    given = (await answer.json()).get("attributes", {})
                    found = [tuple(given[column] for column in COLUMNS[table])] if answer.status == 200 else []
                if found != rows or (not rows and answer.status != 410):
                    differ.append(f"{path}: {answer.status} {found} instead of {rows}")
            if not differ or time.monotonic() > deadline:
                return differ
            await asyncio.sleep(1)


def judge(
    periods: list[Period], chosen: argparse.Namespace, held: Mapping[str, float], differ: list[str]
) -> dict[str, Any]:
    """Returns the figures, with failed checks under `problems`."""
    with_them, without = ([one for one in periods if one.lookups is kind] for kind in (True, False))
    asked = [one.asked for one in with_them if one.asked is not None]
    wrong = [text for one in asked for text in one.wrong]
    count = sum(len(took) for one in asked for took in one.took_ms.values())
    took = {kind: [ms for one in asked for ms in one.took_ms[kind]] for kind in KINDS}
    cpu = [_cpu(of) for of in (with_them, without)]
    return {
        "asked_transactions_per_s": chosen.rate,
        "made_per_s": held.get("rate"),
        "lookups_per_s": round(count / sum(one.seconds for one in asked), 1),
        "lookup_ms": {kind: percentiles(of) for kind, of in took.items()},
        "stream": {name: _stream(of) for name, of in (("with", with_them), ("without", without))},
        "ratios": {
            "throughput": round(_rate(with_them) / _rate(without), 3),
            "velocity_p50": _ratio(with_them, without, 50),
            "velocity_p99": _ratio(with_them, without, 99),
            "worker_cpu": round(cpu[0] / cpu[1], 3),
        },
        "cpu_ms_per_lookup": round((cpu[0] - cpu[1]) * 1_000 / (count / sum(one.seconds for one in asked)), 2),
        "load": [round(one.load, 1) for one in periods],
        "problems": [*wrong[:5], *differ[:5], *([] if all(one.records for one in periods) else ["the stream stood still"])],
    }  # fmt: skip


def _stream(periods: list[Period]) -> dict[str, Any]:
    return {
        "velocity_records_per_s": round(_rate(periods), 1),
        "commit_to_velocity_ms": percentiles([ms for one in periods for ms in one.velocity_ms]),
        "commit_to_alert_ms": percentiles([ms for one in periods for ms in one.alert_ms]),
        "worker_cores": round(_cpu(periods), 3),
    }


def _rate(periods: list[Period]) -> float:
    return sum(one.records for one in periods) / sum(one.seconds for one in periods)


def _cpu(periods: list[Period]) -> float:
    """Returns the average number of cores that the worker used."""
    return sum(one.worker_cpu_s for one in periods) / sum(one.seconds for one in periods)


def _ratio(with_them: list[Period], without: list[Period], percent: int) -> float:
    """Returns the median ratio of the percentiles of neighbouring periods."""
    return round(
        statistics.median(
            percentile(one.velocity_ms, percent) / percentile(other.velocity_ms, percent)
            for one, other in zip(with_them, without, strict=False)
        ),
        2,
    )


def _brief(period: Period) -> str:
    asked = period.asked
    lookups = f"{sum(map(len, asked.took_ms.values())) / asked.seconds:.0f} lookups/s" if asked else "no lookups"
    return (
        f"{lookups}: {period.records / period.seconds:.0f} records/s, commit to velocity "
        f"{percentiles(period.velocity_ms)}, worker {period.worker_cpu_s / period.seconds:.2f} cores, load {period.load:.1f}"
    )


def show(found: Mapping[str, Any]) -> None:
    """Prints the figures as text, and as one line of JSON at the end."""
    print(f"transactions/s asked for {found['asked_transactions_per_s']}, made {found['made_per_s']}")
    print(f"lookups/s                {found['lookups_per_s']}")
    for kind, of in found["lookup_ms"].items():
        print(f"  {kind:22} {of} ms")
    for name, of in found["stream"].items():
        print(f"stream {name:8} lookups  {of}")
    print(f"with to without          {found['ratios']}")
    print(f"processor of a lookup    {found['cpu_ms_per_lookup']} ms in the worker; load {found['load']}")
    for problem in found["problems"]:
        print(f"PROBLEM: {problem}")
    print(json.dumps(found))


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lookups", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=500, help="transactions a second")
    parser.add_argument("--lookups", type=int, default=100, help="lookups a second; 0: as fast as they are answered")
    parser.add_argument("--connections", type=int, default=16, help="lookups under way at most")
    parser.add_argument("--seconds", type=float, default=15, help="of each period")
    parser.add_argument("--pairs", type=int, default=4, help="periods with lookups, and as many without")
    parser.add_argument("--everything", action="store_true", help="with S3, the warehouse and their workers")
    chosen = parser.parse_args()
    os.environ["BANKSTREAM_API_RATE_PER_S"] = os.environ["BANKSTREAM_API_TOTAL_PER_S"] = RATE_LIMIT
    parts, steps = (
        (BACKENDS | WORKERS, DEFAULT) if chosen.everything else (PATH_OF_THE_STREAM, (SOURCE, TOPICS, CONNECTOR))
    )
    with tempfile.TemporaryDirectory() as directory, private_stack(*parts, steps=steps) as stack:
        found = asyncio.run(run(stack, chosen, Path(directory) / "bank.log"))
    show(found)
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
