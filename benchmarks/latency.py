"""Measures the latency of an alert by stage: `python -m benchmarks.latency [--rate 50] [--seconds 60] [--without-sinks]`.

It runs a whole local stack under the simulated bank's load and records when each change reaches each stage: the commit in PostgreSQL,
Debezium, Kafka (produced, then readable because its transaction has committed), the streams' transaction record, velocity and alert. It
prints the processor time of the processes, percentiles of each leg in milliseconds, and the slowest changes. The observer runs on the
same cores as the streams; the delay with which it woke is printed as noise.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from app.config.settings import KafkaSettings, read
from app.config.topics import ALERTS, TRANSACTIONS, TRANSACTIONS_CDC, VELOCITY
from app.domain.times import parse_us
from app.engine.committed_reader import committed_consumer
from app.local.demo.simulator_process import SimulatorProcess
from app.local.stack.part import BACKENDS, WORKERS
from app.local.stack.stack import Stack
from app.operations.provision.steps import CONNECTOR, DEFAULT, SOURCE, TOPICS
from app.proof.reconcile import barrier
from benchmarks.figures import percentiles
from benchmarks.lookups import PATH_OF_THE_STREAM, Observer, opened
from tests.support.machine.stack import private_stack

WARM_UP_S: Final = 8.0
SETTLE_US: Final = 500_000
"""Changes of the first half second are not timed, because their first stages may have been missed."""
SLOWEST: Final = 8
NOISE_S: Final = 0.01
STATIONS: Final = {TRANSACTIONS.name: "transaction", VELOCITY.name: "velocity", ALERTS.name: "alert"}
LEGS: Final = (
    ("commit", "debezium"),
    ("debezium", "change produced"),
    ("commit", "change readable"),
    ("change produced", "transaction produced"),
    ("transaction produced", "{} produced"),
    ("{} produced", "{} readable"),
    ("commit", "{} readable"),
)

Way = dict[str, int]
"""The times at which one change reached each stage, in microseconds since the epoch."""


class _Source(msgspec.Struct):
    lsn: int
    ts_us: int | None = None
    commit_time: str = ""


class _Change(msgspec.Struct):
    source: _Source
    ts_us: int


class _Derived(msgspec.Struct):
    source: _Source


async def run(stack: Stack, rate: int, seconds: float, log: Path) -> dict[str, Any]:
    """Times all changes of `seconds`. Returns the figures."""
    environment = stack.environment()
    await _opened(environment, rate, log)
    bank = SimulatorProcess(environment, log, rate, 8)
    await bank.start()
    making = asyncio.create_task(bank.run(lambda _: None))
    await asyncio.sleep(WARM_UP_S)
    before, began, noise = _processor(), time.time_ns() // 1_000, list[float]()
    sleeping = asyncio.create_task(_sleep(noise))
    ways = await _watch(read(KafkaSettings, environment), seconds)
    took = _processor()
    sleeping.cancel()
    with suppress(asyncio.CancelledError):
        await sleeping
    await bank.stop()
    await making
    kept = [
        way for way in ways if way["commit"] > began + SETTLE_US and {"debezium", "transaction produced"} <= way.keys()
    ]
    found: dict[str, Any] = {"rate": rate, "seconds": seconds}
    found["cores"] = {
        name: round((total - before.get(name, 0)) / seconds, 3)
        for name, total in took.items()
        if total - before.get(name, 0) > 0.01 * seconds
    }
    for kind in ("alert", "velocity"):
        of = [way for way in kept if f"{kind} readable" in way]
        found[kind] = {"count": len(of)} | {
            f"{start.format(kind)} -> {end.format(kind)}": percentiles(
                [(way[end.format(kind)] - way[start.format(kind)]) / 1_000 for way in of]
            )
            for start, end in LEGS
        }
    slowest = sorted(
        (way for way in kept if "velocity readable" in way), key=lambda way: way["commit"] - way["velocity readable"]
    )
    found["slowest_ms"] = [
        {name: (at - way["commit"]) // 1_000 for name, at in way.items()} for way in slowest[:SLOWEST]
    ]
    found["noise_ms"] = percentiles(noise)
    return found


async def _opened(environment: dict[str, str], rate: int, log: Path) -> None:
    observer = Observer(environment)
    observing = asyncio.create_task(observer.run())
    try:
        await opened(environment, observer, rate, log)
    finally:
        observing.cancel()
        with suppress(asyncio.CancelledError):
            await observing


async def _watch(settings: KafkaSettings, seconds: float) -> list[Way]:
    ways: dict[int, Way] = defaultdict(dict)
    changes, derived = msgspec.json.Decoder(_Change), msgspec.json.Decoder(_Derived)
    partitions = await barrier.partitions_of(settings, [TRANSACTIONS_CDC.name, *STATIONS])
    async with committed_consumer(settings) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fetched = await consumer.getmany(timeout_ms=10)
            now = time.time_ns() // 1_000
            for partition, records in fetched.items():
                for record in records:
                    if record.value is None:
                        continue
                    if partition.topic == TRANSACTIONS_CDC.name:
                        change = changes.decode(record.value)
                        way, station = ways[change.source.lsn], "change"
                        way["commit"], way["debezium"] = change.source.ts_us or 0, change.ts_us
                    else:
                        source = derived.decode(record.value).source
                        way, station = ways[source.lsn], STATIONS[partition.topic]
                        way["commit"] = parse_us(source.commit_time)
                    way[f"{station} produced"], way[f"{station} readable"] = record.timestamp * 1_000, now
    return list(ways.values())


async def _sleep(late: list[float]) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(NOISE_S)
        late.append((time.monotonic() - began - NOISE_S) * 1_000)


def _processor() -> dict[str, float]:
    """Returns seconds of processor time by process; the name is the process id and the end of the command line."""
    found = {}
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        command, times = " ".join(process.info["cmdline"] or []), process.info["cpu_times"]
        if command and times is not None:
            found[f"{process.pid} {command[-48:]}"] = times.user + times.system
    return found


def show(found: dict[str, Any]) -> None:
    """Prints the figures as text, and as one line of JSON at the end."""
    for name, cores in sorted(found["cores"].items(), key=lambda item: -item[1]):
        print(f"{cores:6.3f} cores  {name}")
    for kind in ("alert", "velocity"):
        print(f"{kind}: {found[kind]['count']}")
        for leg, figures in found[kind].items():
            if leg != "count":
                print(f"   {leg:46} {figures} ms")
    print("slowest, milliseconds from the commit")
    for way in found["slowest_ms"]:
        print(f"   {way}")
    print(f"noise {found['noise_ms']} ms")
    print(json.dumps(found))


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=50, help="transactions a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--without-sinks", action="store_true", help="no S3, no warehouse, and none of their workers")
    chosen = parser.parse_args()
    parts, steps = (
        (PATH_OF_THE_STREAM, (SOURCE, TOPICS, CONNECTOR)) if chosen.without_sinks else (BACKENDS | WORKERS, DEFAULT)
    )
    with tempfile.TemporaryDirectory() as directory, private_stack(*parts, steps=steps) as stack:
        found = asyncio.run(run(stack, chosen.rate, chosen.seconds, Path(directory) / "bank.log"))
    show(found)
    return 0 if found["alert"]["count"] else 1


if __name__ == "__main__":
    sys.exit(main())
