"""Measures the recovery time of the bank: follows `bank.velocity` and tracks its newest change, partition by partition.

Recovery time is the time from the fault until every partition has a record, readable by a read-committed consumer, of a change that was
committed in PostgreSQL after the fault. The slowest partition counts. Capture and broker are included.
"""

import asyncio
import re
import threading
import time
from datetime import datetime
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings
from app.config.topics import VELOCITY
from app.engine.kafka import connection

COMMITTED: Final = re.compile(rb'"commit_time":"([^"]+)"')
RECONNECT_S: Final = 0.2


class Recovery:
    """Follows the topic in a thread while the context manager is open. `since` may be called at any time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._partitions = [TopicPartition(VELOCITY.name, number) for number in range(kafka.partitions)]
        self._newest = dict.fromkeys(self._partitions, 0.0)
        self._positions: dict[TopicPartition, int] = {}
        self._reached: list[tuple[float, float, dict[TopicPartition, int]]] = []
        """(time, commit time that every partition had passed by then, last offsets read), in ascending order."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="recovery", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def since(self, at: float) -> float | None:
        """Seconds from this Unix time until every partition had a record of a later change; None: not yet."""
        found = self._first(at)
        return None if found is None else max(0.0, found[0] - at)

    def offsets(self, at: float) -> dict[TopicPartition, int]:
        """The last offsets read at the time of recovery. A consumer that has reached them has recovered too. Empty: not yet."""
        found = self._first(at)
        return {} if found is None else found[1]

    def _first(self, at: float) -> tuple[float, dict[TopicPartition, int]] | None:
        return next(((when, last) for when, committed, last in list(self._reached) if committed > at), None)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            consumer = AIOKafkaConsumer(
                **connection(self._kafka), isolation_level="read_committed", enable_auto_commit=False,
                auto_offset_reset="earliest", fetch_max_wait_ms=50,
            )  # fmt: skip
            try:
                await consumer.start()
                consumer.assign(self._partitions)
                for tp, position in self._positions.items():
                    consumer.seek(tp, position)
                while not self._stopping.is_set():
                    self._seen(await consumer.getmany(timeout_ms=200))
            except KafkaError:
                await asyncio.sleep(RECONNECT_S)
            finally:
                await consumer.stop()

    def _seen(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        for tp, records in fetched.items():
            self._positions[tp] = records[-1].offset + 1
            found = COMMITTED.search(records[-1].value)
            if found is not None:
                moment = datetime.fromisoformat(found[1].decode()).timestamp()
                self._newest[tp] = max(self._newest[tp], moment)
        oldest = min(self._newest.values())
        if fetched and (not self._reached or oldest > self._reached[-1][1]):
            self._reached.append((time.time(), oldest, {tp: position - 1 for tp, position in self._positions.items()}))
