"""Checks that each derived topic equals the oracle's output for the changes in Kafka's order, byte for byte."""

from collections import defaultdict
from typing import Any, Final

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.config.topics import (
    ACCOUNTS,
    ALERTS,
    CONTROL,
    CUSTOMERS,
    DEAD_LETTERS,
    SCD2_ACCOUNTS,
    SCD2_CUSTOMERS,
    TRANSACTIONS,
    TRANSACTIONS_CDC,
    VELOCITY,
)
from app.engine.memory import EmittedRecord
from tests.faults.capture_check import Captured
from tests.faults.logs import Reader, Seen, beginning
from tests.faults.oracle import Oracle, forwarded_account
from tests.faults.topic_check import Held, difference, identity, normal
from tests.faults.violations import Violations
from tests.support.catalogue import CATALOGUE

IN_ORDER: Final = (SCD2_ACCOUNTS.name, SCD2_CUSTOMERS.name, VELOCITY.name, ALERTS.name)
"""Topics in which each partition is written by one partition of one group from ordered inputs."""
STREAMS_CDC: Final = frozenset(topic.name for topic in CATALOGUE.cdc)

Listed = list[tuple[bytes, int, int]]
"""(identity, hash, offset) of actual records."""


class Derived:
    """Checks one bank's derived topics. Notes all records that it reads in `seen` and `captured`."""

    def __init__(
        self, oracle: Oracle, kafka: KafkaSettings, seen: dict[TopicPartition, Seen], captured: Captured
    ) -> None:
        self._oracle, self._kafka, self._seen, self._captured = oracle, kafka, seen, captured
        self._numbers = range(kafka.partitions)
        self._second_look = beginning(TopicPartition(TRANSACTIONS.name, number) for number in self._numbers)
        self._held = {tp: Held(tp) for tp in seen if tp.topic in IN_ORDER}
        self._letters: list[EmittedRecord] = []
        self._commands: list[EmittedRecord] = []

    async def run(self, reader: Reader, verdict: Violations) -> None:
        """Checks all records since the last run."""
        self._letters, self._commands = [], []
        joined, actual = await self._passed_on(reader)
        expected: dict[tuple[int, int], list[tuple[bytes, int]]] = defaultdict(list)
        for number in self._numbers:
            await self._by_account(number, joined[number], reader, expected, verdict)
        for key in expected.keys() | actual.keys():
            must, there = expected.get(key, []), actual.get(key, [])
            if [(name, content) for name, content, _ in there] != must:
                difference(f"{TRANSACTIONS.name} of account {key[1]}", must, there, verdict)
        async with Reader(self._kafka, self._second_look) as again:
            for number in self._numbers:
                await self._by_customer(number, reader, again)
        await self._unordered(reader, DEAD_LETTERS.name, self._letters, verdict)
        await self._apply_commands(await self._unordered(reader, CONTROL.name, self._commands, verdict), reader)
        for held in self._held.values():
            rest = await self._take(reader, held.tp, 1 << 40)
            if rest:
                held.compare([], rest)
            held.judge(verdict)

    async def _by_account(
        self,
        number: int,
        joined: dict[int, int],
        reader: Reader,
        expected: dict[tuple[int, int], list[tuple[bytes, int]]],
        verdict: Violations,
    ) -> None:
        oracle = self._oracle.accounts[number]
        accounts = [record async for page in self._page(reader, ACCOUNTS.name, number) for record in page]
        changes = [record async for page in self._page(reader, TRANSACTIONS_CDC.name, number) for record in page]
        for outputs in oracle.process(accounts, changes, joined):
            await self._emitted(number, outputs, reader)
            for output in outputs:
                if output.topic == TRANSACTIONS.name:
                    account = forwarded_account(output)[0].account_id
                    named = b"%d %b" % (output.partition, identity(output.key, output.value))
                    expected[number, account].append((named, hash(output.value)))
        for where in oracle.unexplained:
            verdict.add(f"what {where} gave carries a state of its account that does not fit", wrong=1)
        oracle.unexplained.clear()

    async def _by_customer(self, number: int, reader: Reader, again: Reader) -> None:
        oracle = self._oracle.customers[number]
        async for page in self._page(reader, CUSTOMERS.name, number):
            await self._emitted(number, oracle.process(page), reader)
        async for page in again.pages(TopicPartition(TRANSACTIONS.name, number)):
            await self._emitted(number, oracle.process(page), reader)

    async def _apply_commands(self, commands: dict[int, list[Any]], reader: Reader) -> None:
        """Applies table commands. They wait in each partition for an offset barrier, which every partition has passed by now."""
        for number, records in commands.items():
            for oracle in (self._oracle.accounts[number], self._oracle.customers[number]):
                await self._emitted(number, oracle.partition.process(records, oracle.handlers), reader)
                now_us = records[-1].timestamp * 1_000
                await self._emitted(number, oracle.partition.pass_barriers(now_us=now_us), reader)

    async def _passed_on(self, reader: Reader) -> tuple[dict[int, dict[int, int]], dict[tuple[int, int], Listed]]:
        """Reads `bank.transactions`. Returns account states by source partition and offset, and records by source partition and account."""
        joined: dict[int, dict[int, int]] = {number: {} for number in self._numbers}
        actual: dict[tuple[int, int], Listed] = defaultdict(list)
        for number in self._numbers:
            async for page in self._page(reader, TRANSACTIONS.name, number):
                for record in page:
                    passed, state = forwarded_account(record)
                    joined[passed.source.partition][passed.source.offset] = state
                    named = b"%d %b" % (number, identity(record.key, record.value))
                    actual[passed.source.partition, passed.account_id].append(
                        (named, hash(record.value), record.offset)
                    )
        return joined, actual

    async def _page(self, reader: Reader, topic: str, number: int) -> Any:
        tp = TopicPartition(topic, number)
        async for page in reader.pages(tp):
            self._seen[tp].add(page)
            if topic in STREAMS_CDC:
                table = topic.rpartition(".")[2]
                for record in page:
                    self._captured.add(table, record)  # type: ignore[arg-type]
            yield page

    async def _take(self, reader: Reader, tp: TopicPartition, limit: int) -> list[Any]:
        taken = await reader.take(tp, limit)
        self._seen[tp].add(taken)
        return taken

    async def _emitted(self, number: int, outputs: list[EmittedRecord], reader: Reader) -> None:
        """Compares expected records with the next actual ones of their topics, and collects those of unordered topics."""
        by_topic: dict[str, list[EmittedRecord]] = defaultdict(list)
        for output in outputs:
            by_topic[output.topic].append(output)
        for topic in IN_ORDER:
            if mine := by_topic.get(topic):
                tp = TopicPartition(topic, number)
                self._held[tp].compare(mine, await self._take(reader, tp, len(mine)))
        self._letters += by_topic[DEAD_LETTERS.name]
        self._commands += by_topic[CONTROL.name]

    async def _unordered(
        self, reader: Reader, topic: str, outputs: list[EmittedRecord], verdict: Violations
    ) -> dict[int, list[Any]]:
        """Checks a topic whose order is not determined, because several partitions write to it. Returns its records by partition."""
        must = [(identity(o.key, o.value), hash(normal(o.value))) for o in outputs]
        there: Listed = []
        found: dict[int, list[Any]] = defaultdict(list)
        for number in self._numbers:
            tp = TopicPartition(topic, number)
            async for page in reader.pages(tp):
                if tp in self._seen:
                    self._seen[tp].add(page)
                there += [(identity(r.key, r.value), hash(normal(r.value)), r.offset) for r in page]
                found[number] += page
        if sorted(must) != sorted((name, content) for name, content, _ in there):
            difference(topic, must, there, verdict)
        return found
