"""Drives the counting app: topics, workers, load, and an oracle that finds lost, duplicated and wrong counts."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.kafka import connection
from app.engine.topic_admin import TopicSpec, ensure_topics, policy
from tests.support.paths import PROJECT
from tests.support.streams import counting_app
from tests.support.streams.broker import admin_client, remove_topics

SESSION_TIMEOUT_MS = 6_000


@dataclass
class CountingResult:
    """The final topic, compared with the records that were sent."""

    lost: int
    doubled: int
    wrong_states: int
    dead_letters: int


@dataclass
class CountingRun:
    """One run on new topics, as an async context manager. Workers that are alive at the end are stopped."""

    kafka: KafkaSettings
    home: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    sent: int = 0
    poison: int = 0

    async def __aenter__(self) -> Self:
        await self.drop_topics()
        engine = EngineSettings()
        plain = policy(cleanup="delete", retention_ms=-1, engine=engine, kafka=self.kafka)
        compact = policy(cleanup="compact", retention_ms=-1, engine=engine, kafka=self.kafka)
        names = (counting_app.LEFT, counting_app.RIGHT, counting_app.STEPS, counting_app.FINAL, counting_app.LETTERS)
        specs = [TopicSpec(name, counting_app.PARTITIONS, plain) for name in names]
        specs += [
            TopicSpec(log.topic, counting_app.PARTITIONS, compact)
            for group in counting_app.groups()
            for log in group.changelogs
        ]
        await ensure_topics(specs, self.kafka)
        return self

    async def __aexit__(self, *_: object) -> None:
        for (
            worker
        ) in self.alive():  # they leave their group, so that the next run does not wait for the session timeout
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(10)

    async def drop_topics(self) -> None:
        """Removes the topics of earlier runs, and waits until they are gone."""
        async with admin_client(self.kafka) as admin:
            if old := [topic for topic in await admin.list_topics() if topic.startswith("count")]:
                await remove_topics(admin, *old)

    def log(self, number: int) -> Path:
        """The log of the n-th worker started."""
        return self.home / f"worker-{number}.log"

    def start_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Starts one more worker."""
        settings = {
            "BANKSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "BANKSTREAM_ENGINE_STATE_DIR": str(self.home / "state"),
            "BANKSTREAM_ENGINE_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
        }
        with self.log(len(self.workers)).open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.support.streams.counting_app", "worker", "-l", "info"],
                cwd=PROJECT, env={**os.environ, **settings, **environment}, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.workers.append(worker)
        return worker

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """The running workers."""
        return [worker for worker in self.workers if worker.poll() is None]

    def keep_alive(self, count: int) -> None:
        """Starts workers until this number runs, as a supervisor would."""
        for _ in range(count - len(self.alive())):
            self.start_worker()

    async def send(
        self, count: int, *, keys: int = 200, seed: int = 1, pause_s: float = 0.0, poison_every: int = 1000
    ) -> None:
        """Sends records to both inputs, with ids from `sent` on. Pauses for `pause_s` after each thousand."""
        rnd = random.Random(seed)
        producer = AIOKafkaProducer(**connection(self.kafka), linger_ms=5)
        await producer.start()
        try:
            for _ in range(count):
                key = b"k%d" % rnd.randrange(keys)
                await producer.send(
                    counting_app.LEFT if self.sent % 2 else counting_app.RIGHT, key=key, value=b"%d" % self.sent
                )
                self.sent += 1
                if self.sent % poison_every == 0:
                    await producer.send(counting_app.LEFT, key=key, value=b"poison")
                    self.poison += 1
                    await asyncio.sleep(pause_s)
            await producer.flush()
        finally:
            await producer.stop()

    async def outcome(self, *, deadline_s: float, meanwhile: Callable[[], None] = lambda: None) -> CountingResult:
        """Reads the final topic until it has every id (or the deadline), then to its end, and compares it with what was sent."""
        seen: list[tuple[bytes, bytes]] = []
        deadline = time.monotonic() + deadline_s
        consumer = AIOKafkaConsumer(**connection(self.kafka), isolation_level="read_committed", fetch_max_wait_ms=100)
        await consumer.start()
        try:
            partitions = [TopicPartition(counting_app.FINAL, number) for number in range(counting_app.PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            while len({value.split(b",", 1)[0] for _, value in seen}) < self.sent and time.monotonic() < deadline:
                meanwhile()
                for _ in range(5):
                    seen += [(r.key, r.value) for rs in (await consumer.getmany(timeout_ms=100)).values() for r in rs]
            ends = await consumer.end_offsets(partitions)
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]) and time.monotonic() < deadline:
                seen += [(r.key, r.value) for rs in (await consumer.getmany(timeout_ms=100)).values() for r in rs]
            letters = await self._count(consumer, counting_app.LETTERS, deadline)
        finally:
            await consumer.stop()
        times = Counter(int(value.split(b",", 1)[0]) for _, value in seen)
        return CountingResult(self.sent - len(times), sum(n - 1 for n in times.values()), _wrong_states(seen), letters)

    async def _count(self, consumer: AIOKafkaConsumer, topic: str, deadline: float) -> int:
        partitions = [TopicPartition(topic, number) for number in range(counting_app.PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends, count = await consumer.end_offsets(partitions), 0
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]) and time.monotonic() < deadline:
            count += sum(len(rs) for rs in (await consumer.getmany(timeout_ms=100)).values())
        return count


def _wrong_states(seen: list[tuple[bytes, bytes]]) -> int:
    """Steps whose count or sum does not follow from the earlier steps of the key."""
    counts: Counter[bytes] = Counter()
    sums: Counter[bytes] = Counter()
    wrong = 0
    for key, value in seen:
        number, count, total, steps = map(int, value.split(b","))
        counts[key] += 1
        sums[key] += number
        wrong += (count, total, steps) != (counts[key], sums[key], counts[key])
    return wrong
