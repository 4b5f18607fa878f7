"""Compares PostgreSQL, Kafka, the lake and the warehouse, and reports lost, duplicated and wrong records.

The derived topics and the states are compared with a recomputation. A verification continues where the previous one ended; the bank must
be drained.

capture     Debezium sent exactly the rows of each transaction that PostgreSQL confirmed, and no other transaction
derived     each derived topic equals the oracle's output for the changes in Kafka's order, byte for byte
states      each changelog, folded, equals the oracle's table, byte for byte
lake        the objects of each chain contain exactly Kafka's records: no gap, no overlap, correct hashes and contents
warehouse   each landing table has each offset of Kafka once
"""

import asyncio

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings, S3Settings, SnowflakeSettings
from app.config.topics import CONTROL
from tests.faults.bank import Bank
from tests.faults.capture_check import Captured
from tests.faults.derived_check import Derived
from tests.faults.lake_check import Lake
from tests.faults.logs import Reader, Seen, beginning
from tests.faults.oracle import Oracle
from tests.faults.states_check import States
from tests.faults.violations import Violations
from tests.faults.warehouse_check import hold_warehouse
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of


class Verifier:
    """Verifies one bank, row after row."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._kafka = settings_of(bank.environment, KafkaSettings)
        numbers = range(self._kafka.partitions)
        landed = [TopicPartition(topic.name, number) for topic in CATALOGUE.landed for number in numbers]
        self._positions = beginning([*landed, *(TopicPartition(CONTROL.name, number) for number in numbers)])
        self._seen = {tp: Seen() for tp in landed}
        self._captured = Captured()
        oracle = Oracle(bank.environment)
        self._derived = Derived(oracle, self._kafka, self._seen, self._captured)
        self._states = States(oracle, self._kafka)
        self._lake = Lake()

    def run(self) -> Violations:
        """Verifies all records since the last run."""
        return asyncio.run(self._run())

    async def _run(self) -> Violations:
        verdict, environment = Violations(), self._bank.environment
        async with Reader(self._kafka, self._positions) as reader:
            await self._derived.run(reader, verdict)
        self._captured.settle(self._bank.confirmed, verdict)
        await self._states.run(verdict)
        await self._lake.run(settings_of(environment, S3Settings), self._seen, verdict)
        await asyncio.to_thread(hold_warehouse, settings_of(environment, SnowflakeSettings), self._seen, verdict)
        return verdict
