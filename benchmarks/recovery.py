"""Measures the recovery time of a streams worker: `python -m benchmarks.recovery [--keys 1000000] [--rounds 2]`.

It writes changelogs of `--keys` keys to a real broker, in the product's encodings and in transactions, as the agents write them. Then it
starts real workers on them: without local state (cold), and again after kill -9 (warm). A worker is ready when it has opened and reads all
partitions. The worker's processor time is printed beside the seconds, because it is the better figure on a busy machine.

Before any output, the restored RocksDBs are compared with the written entries, every key and every value.

`--handover` instead measures the cost of a stop: two workers share the partitions, one receives SIGTERM (or SIGKILL), and a steady load on
every partition shows how long the partition has no output.
"""

import argparse
import asyncio
import hashlib
import json
import re
import shutil
import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings
from app.config.topics import ACCOUNTS, SCD2_ACCOUNTS
from app.domain.events import Facts
from app.domain.scd2 import RowState
from app.domain.transaction_join import ForwardedTransaction
from app.engine import positions
from app.engine.kafka import KafkaLog, connection
from app.engine.keys import partition_for
from app.engine.partition_group import POSITIONS, PartitionGroup
from app.engine.store import Store
from app.engine.transactional_producer import Pair, TransactionalProducer
from app.local.stack.part import Part
from app.native.history import without_rules
from app.operations.provision import topics
from app.topology.partition_groups import groups
from benchmarks.figures import say
from tables.encoding import decode_number_key
from tables.forwarded_transactions import FORWARDED_TRANSACTIONS
from tables.rows import ACCOUNTS as ACCOUNT_ROWS
from tables.rows import CUSTOMERS as CUSTOMER_ROWS
from tables.velocity_events import EVENTS
from tables.velocity_histories import CUSTOMER_BYTES, HISTORIES, read_history
from tests.support.bank.cdc import CdcLog
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import private_stack, settings_of
from tests.support.streams.workers import Workers

SHARES: Final = {"accounts": 0.2, "transactions": 0.4, "customers": 0.1, "velocity": 0.3}
"""The share of the keys in each table: an account has two transactions, and each of their events is kept for 31 days."""
BATCH: Final = 5_000
OPENED_AT: Final = "2024-03-01T09:00:00.000000Z"
READY: Final = "bankstream_ready 1.0"
READY_TIMEOUT_S: Final = 300.0
OPENED: Final = re.compile(r"opened (\S+)/(\d+): (\d+) changelog records in ([\d.]+) s")
QUIET_S: Final = 25.0
"""The duration of the load after the stop of a worker: more than a session timeout."""


def entries(table: str, keys: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields the entries of a table's changelog: partition, key and value, in the encodings of `tables/`."""
    for number in range(1, keys + 1):
        partition = number % 4
        if table == "accounts":
            yield partition, ACCOUNT_ROWS.encode_key((number,)), ACCOUNT_ROWS.encode(_account(number))
        elif table == "customers":
            yield partition, CUSTOMER_ROWS.encode_key((number,)), CUSTOMER_ROWS.encode(_customer(number))
        elif table == "transactions":
            passed = ForwardedTransaction(
                True, number, None, number % 1000, hashlib.sha256(b"%d" % number).digest()[:16]
            )
            yield (
                partition,
                FORWARDED_TRANSACTIONS.encode_key((number // 2, number)),
                FORWARDED_TRANSACTIONS.encode(passed),
            )
        else:
            facts = Facts(
                number % 100_000,
                "EUR",
                number % 2 == 0,
                1,
                number * 2_654_435_761 % (1 << 63),
                "DE",
                number,
                partition,
                number,
            )
            yield (
                partition,
                EVENTS.encode_key((number % 1000, number * 1_000_000, number // 2, number)),
                EVENTS.encode(facts),
            )


def _account(number: int) -> RowState:
    return _row(
        number, account_id=number, customer_id=number // 2, account_type="checking", currency="EUR", status="active",
        balance=f"{number % 10_000}.{number % 100:02d}", opened_at=OPENED_AT, updated_at=OPENED_AT,
    )  # fmt: skip


def _customer(number: int) -> RowState:
    return _row(
        number, customer_id=number, name=f"Ada Lovelace {number}", email=f"ada{number}@example.org", phone=f"+49301{number:07d}",
        date_of_birth="1985-12-10Z", address_line=f"Hauptstrasse {number}", city="Berlin", country_code="DE", kyc_status="verified",
        risk_rating="low", created_at=OPENED_AT, updated_at=OPENED_AT,
    )  # fmt: skip


def _row(lsn: int, **columns: str | int) -> RowState:
    attributes = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in columns.items()}
    return RowState(True, attributes, lsn, None, f"{lsn:032x}", 1_700_000_000_000_000)


class Content:
    """An order-independent fingerprint of keys and values, and their count."""

    def __init__(self) -> None:
        self.count = self.sum = 0

    def add(self, key: bytes, value: bytes) -> None:
        """Adds one entry."""
        self.count += 1
        self.sum += int.from_bytes(hashlib.blake2b(key + b"\0" + value, digest_size=8).digest(), "big")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and (self.count, self.sum) == (other.count, other.sum)

    __hash__ = None  # type: ignore[assignment]  # it grows


Contents = dict[tuple[str, str, int], Content]
"""Fingerprints by group, table and partition."""


async def fill(kafka: KafkaSettings, keys: int) -> Contents:
    """Writes the changelogs with the engine's transactions."""
    written: Contents = defaultdict(Content)
    for group in groups(CATALOGUE, kafka):
        producers = [
            TransactionalProducer(f"{group.app_id}.{group.name}.{n}", kafka, EngineSettings()) for n in range(4)
        ]
        for producer in producers:
            await producer.start()
        for table in _tables(group)[1:]:
            batches: list[list[Pair]] = [[] for _ in range(4)]
            for partition, key, value in entries(table, int(keys * SHARES[table])):
                written[group.name, table, partition].add(key, value)
                batches[partition].append((key, value))
                if len(batches[partition]) == BATCH:
                    await producers[partition].commit({(group.changelog(table), partition): batches[partition]})
                    batches[partition] = []
            for partition, rest in enumerate(batches):
                if rest:
                    await producers[partition].commit({(group.changelog(table), partition): rest})
        for partition, producer in enumerate(producers):
            await producer.commit({(group.changelog(POSITIONS), partition): await _identities(group, kafka)})
            for key, value in await _identities(group, kafka):
                written[group.name, POSITIONS, partition].add(key, value)
            await producer.stop()
    return dict(written)


async def _identities(group: PartitionGroup, kafka: KafkaSettings) -> list[tuple[bytes, bytes]]:
    """Returns the entries with the topic ids of the changelogs. Without them workers do not accept the changelogs."""
    async with KafkaLog(kafka) as log:
        ids = await log.require(changelog.topic for changelog in group.changelogs)
    return [
        (positions.CHANGELOG + changelog.table.encode(), ids[changelog.topic].id.bytes)
        for changelog in group.changelogs
    ]


def _tables(group: PartitionGroup) -> list[str]:
    return [POSITIONS, *(table.name for table in group.tables if table.name in SHARES)]


def stored(state: Path, kafka: KafkaSettings) -> Contents:
    """Returns the content of the local state of a stopped worker."""
    found: Contents = defaultdict(Content)
    for group in groups(CATALOGUE, kafka):
        for partition in range(4):
            path = next(state.glob(f"*/{group.app_id}/{group.name}/{partition}"))
            store = Store(path, block_cache=Cache(8 << 20))
            for table in _tables(group):
                entries = _events(store) if table == EVENTS.name else store.scan(table)
                for key, value in entries:
                    found[group.name, table, partition].add(key, value)
            store.close()
    return dict(found)


def _events(store: Store) -> Iterator[tuple[bytes, bytes]]:
    """Yields the stored histories as entries of the changelog."""
    assert next(store.scan(EVENTS.name), None) is None, "records of the changelog were left underived"
    rules = without_rules()
    for prefix, chunks in groupby(store.scan(HISTORIES.name), lambda entry: entry[0][:CUSTOMER_BYTES]):
        (customer_id,) = decode_number_key(prefix)
        for event in read_history(chunks, rules):
            key = EVENTS.encode_key((customer_id, event.time_us, event.account_id, event.transaction_id))
            yield key, EVENTS.encode(event.facts)


def free_port() -> int:
    """Returns a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Started:
    """A started worker."""

    def __init__(self, workers: Workers, state: Path, **settings: str) -> None:
        self.port = free_port()
        self.began = time.monotonic()
        own = {"BANKSTREAM_ENGINE_STATE_DIR": str(state), "BANKSTREAM_METRICS_PORT": str(self.port)}
        self.process = workers.start("streams", **{**own, **settings})  # type: ignore[arg-type]  # none is `by_faust`
        self.log = workers.home / f"worker-{workers.started}-streams.log"

    def wait_ready(self) -> dict[str, float]:
        """Waits until it reads its partitions. Returns seconds since the start, processor time, records, and the longest restore."""
        deadline = self.began + READY_TIMEOUT_S
        while READY not in self.metrics():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)
        ready = time.monotonic()
        times = psutil.Process(self.process.pid).cpu_times()
        opened = OPENED.findall(self.log.read_text())
        return {
            "seconds": ready - self.began, "cpu_s": times.user + times.system, "records": sum(int(found[2]) for found in opened),
            "restore_s": max((float(found[3]) for found in opened), default=0.0), "partitions": len(opened),
        }  # fmt: skip

    def metrics(self) -> str:
        """Returns the text of /metrics; empty while the worker does not answer."""
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
        return ""


def measure(environment: Mapping[str, str], home: Path, written: Contents, rounds: int) -> dict[str, Any]:
    """Measures cold and warm starts, interleaved."""
    kafka = settings_of(environment, KafkaSettings)
    state = home / "state"
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with Workers(environment, home) as workers:
        for _ in range(rounds):
            shutil.rmtree(state, ignore_errors=True)
            cold = Started(workers, state)
            found["cold"].append(cold.wait_ready())
            say(f"cold: {found['cold'][-1]}")
            workers.kill(cold.process)
            warm = Started(workers, state)
            found["warm"].append(warm.wait_ready())
            say(f"warm: {found['warm'][-1]}")
            assert workers.stop(warm.process) == 0, warm.log.read_text()[-3000:]
            assert stored(state, kafka) == written, "the restored state differs from what was written"
    total = sum(content.count for content in written.values())
    assert all(round_["records"] == total for round_ in found["cold"]), found
    return {
        kind: {name: statistics.median(one[name] for one in of) for name in of[0]} for kind, of in found.items()
    } | {"keys": total}


# -- handing over ---------------------------------------------------------------------------------------------------------


async def handover(environment: Mapping[str, str], home: Path, *, kill: bool) -> dict[str, Any]:
    """Stops one of two workers. Returns, by partition, the longest time without an output record."""
    kafka = settings_of(environment, KafkaSettings)
    with Workers(environment, home) as workers:
        settings = {"BANKSTREAM_ENGINE_SESSION_TIMEOUT_MS": str(EngineSettings().session_timeout_ms)}
        first, second = (Started(workers, home / f"state-of-{name}", **settings) for name in "ab")
        await asyncio.to_thread(first.wait_ready)
        await asyncio.to_thread(second.wait_ready)
        async with asyncio.TaskGroup() as tasks:
            stop = asyncio.Event()
            came: dict[int, list[float]] = defaultdict(list)
            tasks.create_task(_load(kafka, stop))
            tasks.create_task(_outputs(kafka, stop, came))
            async with asyncio.timeout(60):
                while len(came) < 4 or min(map(len, came.values())) < 20:  # both have settled and process
                    await asyncio.sleep(0.05)
            began = time.monotonic()
            if kill:
                workers.kill(first.process)
            else:
                code = await asyncio.to_thread(workers.stop, first.process)
                assert code == 0, first.log.read_text()[-3000:]
            ended = time.monotonic()
            await asyncio.sleep(QUIET_S)
            stop.set()
        workers.check()
        moved = {int(n) for _, n, *_ in OPENED.findall(second.log.read_text())}
    gaps = {number: _longest_gap(times, began) for number, times in sorted(came.items())}
    assert all(times[-1] > ended + QUIET_S - 5 for times in came.values()), "a partition did not come back"
    return {
        "exit_s": round(ended - began, 2),
        "opened_by_the_other": len(moved),
        "longest_gap_s": {n: round(gap, 2) for n, gap in gaps.items()},
    }


def _longest_gap(times: list[float], since: float) -> float:
    later = [since, *(at for at in times if at >= since)]
    return max(b - a for a, b in pairwise(later))


def _accounts_of(partitions: int) -> dict[int, int]:
    """Returns an account for each partition."""
    found: dict[int, int] = {}
    number = 10_000_000
    while len(found) < partitions:
        number += 1
        found.setdefault(partition_for(b'{"account_id":%d}' % number, partitions), number)
    return found


async def _load(kafka: KafkaSettings, stop: asyncio.Event) -> None:
    """Sends a change of one account in every partition, twenty times a second."""
    logs = {
        number: (account, CdcLog("accounts", "account_id"))
        for number, account in _accounts_of(kafka.partitions).items()
    }
    producer = AIOKafkaProducer(**connection(kafka))
    await producer.start()
    try:
        step = 0
        while not stop.is_set():
            step += 1
            for number, (account, log) in logs.items():
                row = {
                    "account_id": account,
                    "customer_id": 1,
                    "account_type": "checking",
                    "currency": "EUR",
                    "status": f"s{step}",
                }
                record = log.change("c" if step == 1 else "u", after=row, before=None)
                await producer.send(ACCOUNTS.name, key=record.key, value=record.value, partition=number)
            await asyncio.sleep(0.05)
        await producer.flush()
    finally:
        await producer.stop()


async def _outputs(kafka: KafkaSettings, stop: asyncio.Event, came: dict[int, list[float]]) -> None:
    """Records when versions of accounts arrive, by partition."""
    consumer = AIOKafkaConsumer(**connection(kafka), isolation_level="read_committed", fetch_max_wait_ms=20)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(SCD2_ACCOUNTS.name, number) for number in range(kafka.partitions)])
        await consumer.seek_to_end()
        while not stop.is_set():
            for tp, records in (await consumer.getmany(timeout_ms=50)).items():
                came[tp.partition] += [time.monotonic()] * len(records)
    finally:
        await consumer.stop()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--handover", action="store_true", help="measure a stop of one worker of two instead")
    chosen = parser.parse_args()
    with private_stack(Part.KAFKA) as stack, TemporaryDirectory(prefix="bankstream-recovery-") as folder:
        environment, home = stack.environment(), Path(folder)
        kafka = settings_of(stack, KafkaSettings)
        asyncio.run(topics.provision(CATALOGUE, groups(CATALOGUE, kafka), kafka, EngineSettings()))
        began = time.monotonic()
        written = asyncio.run(fill(kafka, chosen.keys))
        say(f"{chosen.keys:,} keys written in {time.monotonic() - began:.0f} s")
        if chosen.handover:
            found = {}
            for how in ("SIGTERM", "kill -9"):
                (home / how).mkdir()
                found[how] = asyncio.run(handover(environment, home / how, kill=how == "kill -9"))
        else:
            found = measure(environment, home, written, chosen.rounds)
            for kind in ("cold", "warm"):
                of = found[kind]
                rate = of["records"] / of["restore_s"] if of["restore_s"] else 0.0
                print(
                    f"{kind}: ready in {of['seconds']:.1f} s ({of['cpu_s']:.1f} s of processor), {of['records']:,.0f} records in "
                    f"{of['restore_s']:.2f} s, {rate:,.0f}/s"
                )
        print(json.dumps(found))


if __name__ == "__main__":
    main()
