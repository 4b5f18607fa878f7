"""Tests the processor of a sink: the records that it passes on, and the two positions that it reports."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from prometheus_client import REGISTRY

from app.engine.processors import SinkProcessor
from app.engine.unit_of_work import InputRecord
from app.errors import BankstreamError


@dataclass(frozen=True)
class Record:
    offset: int
    topic: str = "t"
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Sink:
    """Accepts all records, and makes them durable only on request."""

    def __init__(self, begin: int | None, topic_id: uuid.UUID | None = None) -> None:
        self.position, self.topic_id = begin, topic_id
        self.taken: list[list[int]] = []
        self.closed = False

    async def open(self) -> int | None:
        return self.position

    async def process(self, records: Sequence[InputRecord]) -> None:
        self.taken.append([record.offset for record in records])

    async def close(self) -> None:
        self.closed = True


def batch(*offsets: int, topic: str = "t") -> tuple[str, list[InputRecord]]:
    return topic, [Record(offset, topic) for offset in offsets]


def counted() -> float:
    return REGISTRY.get_sample_value("bankstream_records_total", {"topic": "t"}) or 0.0


async def opened(sink: Sink) -> SinkProcessor:
    processor = SinkProcessor("t", sink)
    await processor.open()
    return processor


@pytest.mark.parametrize(
    ("begin", "batches", "taken", "position", "why"),
    [
        (None, [batch(7, 8)], [[7, 8]], 9, "from wherever Kafka begins"),
        (8, [batch(7, 8, 10)], [[8, 10]], 11, "what the destination has is not handed over again"),
        (9, [batch(7, 8)], [], 9, "nothing is new"),
        (None, [batch(1, 2), batch(2, 3)], [[1, 2], [3]], 4, "each once"),
        (5, [], [], 5, "nothing came"),
    ],
)
async def test_a_sink_gets_each_record_once_and_in_order(
    begin: int | None, batches: list[tuple[str, list[InputRecord]]], taken: list[list[int]], position: int, why: str
) -> None:
    sink, before = Sink(begin), counted()
    processor = await opened(sink)
    await processor.process(batches)
    assert (sink.taken, processor.position("t")) == (taken, position), why
    assert counted() - before == sum(map(len, taken)), why


async def test_the_taken_and_the_durable_position_are_different() -> None:
    sink = Sink(5)
    processor = await opened(sink)
    await processor.process([batch(5, 6, 7)])
    assert (processor.position("t"), processor.durable_position("t")) == (8, 5)
    sink.position = 8
    assert processor.durable_position("t") == 8


@pytest.mark.parametrize("topic_id", [None, uuid.UUID(int=7)])
async def test_a_sink_says_which_topic_its_position_is_about(topic_id: uuid.UUID | None) -> None:
    topic_ids = (await opened(Sink(5, topic_id))).topic_ids()
    assert topic_ids == ({} if topic_id is None else {"t": topic_id})


async def test_a_processor_that_is_asked_about_another_topic_says_so() -> None:
    sink = Sink(5)
    processor = await opened(sink)
    for ask in (processor.position, processor.durable_position):
        with pytest.raises(BankstreamError, match="processor of t was asked about u"):
            ask("u")
    with pytest.raises(BankstreamError, match="processor of t was asked about u"):
        await processor.process([batch(5, topic="u")])
    assert sink.taken == []


async def test_closing_a_processor_closes_the_sink() -> None:
    sink = Sink(5)
    processor = await opened(sink)
    await processor.punctuate()
    assert not sink.closed
    await processor.close()
    assert sink.closed
