"""Waits until all transactions committed in PostgreSQL have reached the derived topics, the lake and the warehouse."""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings, SnowflakeSettings, SourceSettings
from app.config.topics import CONTROL, CUSTOMERS, TRANSACTIONS
from app.engine.partition_group import POSITIONS
from app.proof.reconcile import barrier
from app.proof.reconcile.report import ReconcileError
from app.proof.reconcile.warehouse import CurrentRowsReader
from app.topology.partition_groups import groups
from sinks.base import SinkError
from tests.faults.bank import Bank
from tests.faults.logs import Reader, beginning
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of

POLL_S = 0.25


class CatchUpTimeoutError(AssertionError):
    """Not all transactions reached every place in time."""


class CatchUp:
    """Waits for one bank, row after row. Each wait continues reading where the previous one ended."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._kafka = settings_of(bank.environment, KafkaSettings)
        self._groups = groups(CATALOGUE, self._kafka)
        self._changelogs = {
            TopicPartition(group.changelog(POSITIONS), number): group
            for group in self._groups
            for number in range(group.partitions)
        }
        self._read = beginning(self._changelogs)
        self._processed: dict[tuple[str, str, int], int] = {}

    def run(self, timeout_s: float) -> float:
        """Waits and returns the seconds that it took. Raises CatchUpTimeoutError, which names what is behind."""
        began = time.monotonic()
        try:
            asyncio.run(self._run(began + timeout_s, timeout_s))
        except (ReconcileError, SinkError, TimeoutError) as error:
            raise CatchUpTimeoutError(f"not drained after {timeout_s:.0f} s: {error}\n{self._bank.logs()}") from error
        return time.monotonic() - began

    async def _run(self, deadline: float, timeout_s: float) -> None:
        source = settings_of(self._bank.environment, SourceSettings)
        cdc = [topic.name for topic in CATALOGUE.cdc]
        captured = await barrier.everything_committed(
            self._kafka, source, cdc, timeout_s=timeout_s, on_progress=lambda _: None
        )
        accounts, customers = self._groups
        await self._reached(
            accounts.name, {tp: end for tp, end in captured.items() if tp.topic != CUSTOMERS.name}, deadline
        )
        passed = await self._last([TRANSACTIONS.name, CONTROL.name], deadline)
        people = {tp: end for tp, end in captured.items() if tp.topic == CUSTOMERS.name}
        await self._reached(customers.name, {**passed, **people}, deadline)
        landed = await self._last([topic.name for topic in CATALOGUE.landed], deadline)
        ids = await barrier.topic_ids(self._kafka, [topic.name for topic in CATALOGUE.landed])
        with contextlib.closing(CurrentRowsReader(settings_of(self._bank.environment, SnowflakeSettings))) as warehouse:
            await asyncio.to_thread(
                barrier.wait_for_ledger,
                warehouse,
                landed,
                ids,
                timeout_s=max(1.0, deadline - time.monotonic()),
                on_progress=lambda _: None,
            )

    async def _last(self, topics: list[str], deadline: float) -> Mapping[TopicPartition, int]:
        return await barrier.last_records(self._kafka, await barrier.partitions_of(self._kafka, topics), deadline)

    async def _reached(self, group: str, wanted: Mapping[TopicPartition, int], deadline: float) -> None:
        """Waits until the stored positions of a group are past these offsets."""
        while True:
            async with Reader(self._kafka, self._read) as reader:
                for tp, of in self._changelogs.items():
                    async for page in reader.pages(tp):
                        for record in page:
                            self._processed[of.name, record.key.decode(), tp.partition] = int.from_bytes(record.value)
            behind = {
                f"{tp.topic}/{tp.partition}": (self._processed.get((group, tp.topic, tp.partition), 0), last + 1)
                for tp, last in wanted.items()
                if self._processed.get((group, tp.topic, tp.partition), 0) < last + 1
            }
            if not behind:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{group} has processed less than Kafka has (processed, end): {behind}")
            await asyncio.sleep(POLL_S)
