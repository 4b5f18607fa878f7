"""Measures alerts and memory during an outage of S3 or the warehouse: `python -m benchmarks.backpressure --seconds 600 --rate 75`.

The whole stack runs under load. Then one sink is frozen (it accepts connections but does not answer) or stopped (it refuses connections)
for `--seconds`, and recovers. Alerts are timed before, during and after the outage. The private memory of every worker (RssAnon, without
page cache) is sampled once a second. Before any output, the benchmark checks that nothing reached the sink during the outage, that every
table reconciles with PostgreSQL, and that the warehouse has each of Kafka's alerts once. Exit code 1 if a check fails.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings, SnowflakeSettings, read
from app.config.topics import ALERTS, LAKE_OBJECTS, VELOCITY
from app.domain.records import Source
from app.domain.times import parse_us
from app.engine.committed_reader import committed_reader
from app.errors import BankstreamError
from app.local.demo.catch_up import wait_until_caught_up
from app.local.demo.simulator_process import SimulatorProcess
from app.local.stack.part import BACKENDS, WORKERS
from app.local.stack.stack import Stack
from app.operations.provision.steps import DEFAULT
from app.proof.reconcile import barrier, reconcile
from benchmarks.figures import percentiles, say
from sinks.relations import relation
from sinks.sessions import open_reader
from tests.support.machine.stack import private_stack

Phase = Literal["before", "outage", "after"]
Sink = Literal["s3", "warehouse"]
How = Literal["frozen", "stopped"]

OPENING_S: Final = 1.0
SAMPLE_S: Final = 1.0
NOISE_S: Final = 0.1
GRACE_S: Final = 5.0
"""The time after the start of the outage during which requests in flight may still reach the sink."""
SETTLE_TIMEOUT_S: Final = 600.0
MAX_GROWTH_MB: Final = 256
"""The bound that backpressure has to keep: the maximum growth of a worker's memory in an outage of any length."""


class _Sourced(msgspec.Struct):
    source: Source
    alert_id: str = ""


@dataclass
class Seen:
    """The observations. Times are `time.monotonic()`."""

    phase: Phase = "before"
    alert_ms: dict[Phase, list[float]] = field(default_factory=lambda: defaultdict(list))
    velocity_ms: dict[Phase, list[float]] = field(default_factory=lambda: defaultdict(list))
    alert_ids: list[str] = field(default_factory=list)
    objects: list[float] = field(default_factory=list)
    """The arrival time of each announcement of an object."""
    ledger: list[tuple[float, int]] = field(default_factory=list)
    """The times at which the ledger was read, each with the sum of its offsets."""
    noise_ms: dict[Phase, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The delay with which this process woke from sleep: the part of the latencies that the machine causes."""
    memory_mb: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    deaths: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Outage:
    """The start and end of the outage, and the time until everything had arrived after it."""

    sink: Sink
    how: How
    began: float
    ended: float
    caught_up_s: float


class Observers:
    """Threads and tasks that fill a `Seen` for the length of the context."""

    def __init__(self, stack: Stack) -> None:
        self.seen = Seen()
        self._stack, self._environment = stack, stack.environment()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._memory, self._deaths, self._ledger)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Seen:
        consumer = committed_reader(read(KafkaSettings, self._environment))
        await consumer.start()
        partitions = await barrier.partitions_of(
            read(KafkaSettings, self._environment), [ALERTS.name, VELOCITY.name, LAKE_OBJECTS.name]
        )
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)
        self._tasks = [asyncio.create_task(self._read(consumer)), asyncio.create_task(self._noise())]
        for thread in self._threads:
            thread.start()
        return self.seen

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 10)
        if failed := [error for error in ended if isinstance(error, Exception)]:
            raise failed[0]

    async def _read(self, consumer: Any) -> None:
        decoder = msgspec.json.Decoder(_Sourced)
        try:
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=20)).items():
                    now, now_us = time.monotonic(), time.time_ns() // 1_000
                    if partition.topic == LAKE_OBJECTS.name:
                        self.seen.objects += [now] * len(records)
                        continue
                    times = self.seen.alert_ms if partition.topic == ALERTS.name else self.seen.velocity_ms
                    for record in records:
                        found = decoder.decode(record.value)
                        times[self.seen.phase].append((now_us - parse_us(found.source.commit_time)) / 1_000)
                        if found.alert_id:
                            self.seen.alert_ids.append(found.alert_id)
        finally:
            await consumer.stop()

    async def _noise(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(NOISE_S)
            self.seen.noise_ms[self.seen.phase].append((time.monotonic() - began - NOISE_S) * 1_000)

    def _memory(self) -> None:
        names = [status.name for status in self._stack.status() if status.name.startswith(tuple(WORKERS))]
        while not self._stop.wait(SAMPLE_S):
            for name in names:
                if (pid := self._stack.pid(name)) and (used := private_mb(pid)) is not None:
                    self.seen.memory_mb[name].append((time.monotonic(), used))

    def _deaths(self) -> None:
        for died in self._stack.watch(self._stop):
            self.seen.deaths[died.part].append(died.reason)

    def _ledger(self) -> None:
        settings = read(SnowflakeSettings, self._environment).model_copy(
            update={"network_timeout_s": 5, "login_timeout_s": 5}
        )
        while not self._stop.wait(SAMPLE_S):
            with contextlib.suppress(Exception), open_reader(settings) as reader:
                while not self._stop.wait(SAMPLE_S):
                    total = sum(row.last_offset for row in reader.ledger().values())
                    self.seen.ledger.append((time.monotonic(), total))


def private_mb(pid: int) -> float | None:
    """Returns the anonymous memory of a process; None if the process has exited."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return None


def run(sink: Sink, how: How, *, seconds: float, before_s: float, rate: int, log: Path) -> dict[str, Any]:
    """Runs one outage on a private stack. Returns the figures."""
    with private_stack(*BACKENDS, *WORKERS, steps=DEFAULT) as stack:
        return measure(stack, sink, how, seconds=seconds, before_s=before_s, rate=rate, log=log)


def measure(
    stack: Stack, sink: Sink, how: How, *, seconds: float, before_s: float, rate: int, log: Path
) -> dict[str, Any]:
    """Runs one outage on this stack, which must run with all its parts. Returns the figures."""
    environment = stack.environment()
    seen, outage = asyncio.run(_loaded(stack, sink, how, seconds=seconds, before_s=before_s, rate=rate, log=log))
    report = reconcile(environment)
    return judge(seen, outage, reconciled=report.reconciled, landed=landed(environment))


async def _loaded(
    stack: Stack, sink: Sink, how: How, *, seconds: float, before_s: float, rate: int, log: Path
) -> tuple[Seen, Outage]:
    environment = stack.environment()
    opening = SimulatorProcess(environment, log, rate, 7, seconds=OPENING_S)
    await opening.start()
    await opening.run(lambda _: None)
    await arrived(environment)
    async with Observers(stack) as seen:
        bank = SimulatorProcess(environment, log, rate, 8)
        await bank.start()
        running = asyncio.create_task(bank.run(lambda _: None))
        try:
            outage = await disturb(stack, seen, sink, how, seconds=seconds, before_s=before_s)
        finally:
            await bank.stop()
            await running
        await arrived(environment)
        return seen, outage


async def arrived(environment: Mapping[str, str]) -> None:
    """Waits until everything committed by now has arrived in the warehouse. Retries parts that do not answer."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        try:
            await wait_until_caught_up(environment, timeout_s=deadline - time.monotonic(), on_progress=lambda _: None)
        except (KafkaError, BankstreamError) as error:
            if time.monotonic() > deadline:
                raise
            say(f"not arrived yet: {error}")
        else:
            return


async def disturb(stack: Stack, seen: Seen, sink: Sink, how: How, *, seconds: float, before_s: float) -> Outage:
    """Runs the phases before, outage and after. Returns when all commits, including those after the outage, have arrived."""
    say(f"load for {before_s:.0f} s, then {sink} {how} for {seconds:.0f} s")
    await asyncio.sleep(before_s)
    await asyncio.to_thread(*((stack.stop, sink) if how == "stopped" else (stack.kill, sink, "STOP")))
    seen.phase, began = "outage", time.monotonic()
    for _ in range(int(seconds // 10)):
        await asyncio.sleep(10)
        say(f"outage {time.monotonic() - began:4.0f} s: {brief(seen)}")
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    ended = time.monotonic()
    await asyncio.to_thread(*((stack.start, sink) if how == "stopped" else (stack.kill, sink, "CONT")))
    seen.phase = "after"
    await arrived(stack.environment())
    return Outage(sink, how, began, ended, time.monotonic() - ended)


def brief(seen: Seen) -> str:
    """Returns a line of progress during the outage."""
    memory = ", ".join(f"{name} {samples[-1][1]:.0f} MB" for name, samples in sorted(seen.memory_mb.items()))
    deaths = ", ".join(f"{name} {len(reasons)}" for name, reasons in seen.deaths.items())
    return f"{len(seen.velocity_ms['outage'])} transactions, {memory}; ends: {deaths or 'none'}"


def landed(environment: Mapping[str, str]) -> tuple[int, int]:
    """Returns the rows and the distinct ids of the alerts in the warehouse."""
    settings = read(SnowflakeSettings, environment)
    with open_reader(settings) as reader:
        alerts = relation(settings.database, "ALERTS")
        [(rows, ids)] = reader.rows(f"SELECT count(*), count(DISTINCT record:value:alert_id::string) FROM {alerts}")  # noqa: S608 - a name
        return int(rows), int(ids)


def judge(seen: Seen, outage: Outage, *, reconciled: bool, landed: tuple[int, int]) -> dict[str, Any]:
    """Returns the figures, with failed checks under `problems`."""
    dark = (outage.began + GRACE_S, outage.ended)
    objects = sum(dark[0] < at < dark[1] for at in seen.objects)
    moves = [total for at, total in seen.ledger if dark[0] < at < dark[1]]
    reached = objects if outage.sink == "s3" else len(set(moves)) - 1 if moves else 0
    memory = {name: _memory_of(samples, outage) for name, samples in sorted(seen.memory_mb.items())}
    ids = set(seen.alert_ids)
    problems = [
        text
        for text, holds in (
            ("the outage did not happen: the sink was still written to", reached <= 0),
            ("the warehouse differs from PostgreSQL", reconciled),
            ("an alert is twice in Kafka", len(ids) == len(seen.alert_ids)),
            ("an alert is twice in the warehouse", landed[0] == landed[1]),
            ("alerts are missing in the warehouse", landed[1] >= len(ids)),
            ("no alert came during the outage", bool(seen.alert_ms["outage"])),
            ("the streams worker ended", not any(name.startswith("streams") for name in seen.deaths)),
            *(
                (f"{name} grew by more than {MAX_GROWTH_MB} MB", of["growth"] <= MAX_GROWTH_MB)
                for name, of in memory.items()
            ),
        )
        if not holds
    ]
    return {
        "sink": outage.sink, "how": outage.how, "outage_s": round(outage.ended - outage.began, 1),
        "caught_up_s": round(outage.caught_up_s, 1), "objects_during": objects, "reconciled": reconciled,
        "alerts": {"kafka": len(ids), "warehouse": landed[0]},
        "commit_to_alert_ms": {phase: percentiles(found) for phase, found in seen.alert_ms.items()},
        "commit_to_velocity_ms": {phase: percentiles(found) for phase, found in seen.velocity_ms.items()},
        "machine_noise_ms": {phase: percentiles(found) for phase, found in seen.noise_ms.items()},
        "memory_mb": memory, "ends": {name: dict(_counted(reasons)) for name, reasons in seen.deaths.items()}, "problems": problems,
    }  # fmt: skip


def _memory_of(samples: list[tuple[float, float]], outage: Outage) -> dict[str, float]:
    before = [used for at, used in samples if at < outage.began]
    during = [used for at, used in samples if outage.began <= at < outage.ended]
    after = [used for at, used in samples if at >= outage.ended]
    found = {"before": max(before), "outage": max(during), "after": max(after), "at_end": samples[-1][1]}
    return {name: round(used, 1) for name, used in (found | {"growth": max(during + after) - max(before)}).items()}


def _counted(reasons: list[str]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in reasons}


def show(found: Mapping[str, Any]) -> None:
    """Prints the figures as text, and as one line of JSON at the end."""
    for kind in ("commit_to_alert_ms", "commit_to_velocity_ms", "machine_noise_ms"):
        for phase, of in found[kind].items():
            print(f"{kind:24} {phase:7} {of}")
    for name, of in found["memory_mb"].items():
        print(f"private memory, MB       {name:10} {of}")
    print(f"ends of workers          {found['ends'] or 'none'}")
    print(
        f"caught up                {found['caught_up_s']} s after the end of the outage; reconciled: {found['reconciled']}"
    )
    for problem in found["problems"]:
        print(f"PROBLEM: {problem}")
    print(json.dumps(found))


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backpressure", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sink", choices=("s3", "warehouse"), default="s3")
    parser.add_argument("--how", choices=("frozen", "stopped"), default="frozen")
    parser.add_argument("--seconds", type=float, default=30, help="of the outage")
    parser.add_argument("--before", type=float, default=20, help="seconds of load before it")
    parser.add_argument("--rate", type=int, default=50, help="transactions a second")
    parser.add_argument("--log", type=Path, default=Path("bank.log"), help="log of the simulated bank")
    chosen = parser.parse_args()
    found = run(
        chosen.sink, chosen.how, seconds=chosen.seconds, before_s=chosen.before, rate=chosen.rate, log=chosen.log
    )
    show(found)
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
