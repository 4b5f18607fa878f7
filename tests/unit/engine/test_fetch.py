"""Tests that the records of a fetch that waited through a rebalance are neither processed nor lost."""

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP

from app.engine.engine import Cursor
from app.engine.faust_hooks import Consumer

PARTITION = TopicPartition("topic", 0)


class Fetching(Consumer):
    """A consumer of which only the delivery of records is used."""

    def __init__(self, cursors: dict[TopicPartition, Cursor]) -> None:
        self.app = SimpleNamespace(engine=SimpleNamespace(cursors=cursors))
        self.sought: list[tuple[TP, int]] = []

    async def seek(self, partition: TP, offset: int) -> None:
        self.sought.append((partition, offset))


RECORDS: list[Any] = [SimpleNamespace(offset=7)]


async def test_records_fetched_across_a_seek_are_fetched_again_from_the_cursor() -> None:
    before, after = Cursor(3), Cursor(7)
    consumer = Fetching({PARTITION: after})
    await consumer._deliver(PARTITION, {PARTITION: before}, RECORDS)
    assert consumer.sought == [(TP("topic", 0), 7)]
    assert (after.next, after.pending) == (7, 0), "nothing was taken"


async def test_records_of_a_partition_that_will_be_sought_are_dropped() -> None:
    consumer = Fetching({})
    await consumer._deliver(PARTITION, {PARTITION: Cursor(3)}, RECORDS)
    assert consumer.sought == []


async def test_a_fetch_that_failed_halfway_is_repeated_from_the_cursors() -> None:
    """aiokafka delivers none of the records that it had taken before the failure."""
    kept, sought_anew = Cursor(7), Cursor(40)
    consumer = Fetching({PARTITION: kept, TopicPartition("topic", 1): sought_anew})
    await consumer._read_again([TP("topic", 0), TP("topic", 1), TP("topic", 2)])
    assert consumer.sought == [(TP("topic", 0), 7), (TP("topic", 1), 40)]
