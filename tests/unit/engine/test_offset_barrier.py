"""Tests offset barriers with a scripted Kafka."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.engine import offset_barrier as barriers

T3 = TopicPartition("t", 3)
A, B = ("t", "a"), ("t", "b")


class Log:
    """Returns the begin and end of topics, and counts the calls."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin_at, self.end_at = begin, end
        self.asked: list[str] = []

    async def end(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.asked.append("end")
        return dict.fromkeys(partitions, self.end_at)

    async def beginning(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.asked.append("beginning")
        return dict.fromkeys(partitions, self.begin_at)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TopicPartition, int, int]]:
    """Records every search for committed records. Each search finds some."""
    found: list[tuple[TopicPartition, int, int]] = []

    async def something_committed(_: KafkaSettings, tp: TopicPartition, begin: int, end: int) -> bool:
        found.append((tp, begin, end))
        return False

    monkeypatch.setattr(barriers, "nothing_committed", something_committed)
    return found


def barrier(log: Log) -> Any:
    return barriers.OffsetBarriers(3, KafkaSettings(), log)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "begin", "come", "looked", "why"),
    [
        (10, 0, True, [], "all is processed"),
        (11, 0, True, [], "and more"),
        (9, 0, False, [(T3, 9, 10)], "one record is not"),
        (None, 4, False, [(T3, 4, 10)], "nothing is processed, and the topic begins with 4"),
        (None, 10, True, [], "nothing is processed, and the topic is empty"),
        (0, 4, False, [(T3, 0, 10)], "a position of zero is one"),
    ],
)
async def test_a_barrier_is_passed_when_everything_below_the_end_is_processed(
    position: int | None, begin: int, come: bool, looked: list[Any], why: str, looks: list[Any]
) -> None:
    reached = await barrier(Log(begin, 10)).reached([A], {"t": position}.get)
    assert reached == ([A] if come else []), why
    assert looks == looked, why


async def test_the_end_is_requested_once_for_each_barrier(looks: list[Any]) -> None:
    """It is the end at the time of the request: the barrier does not wait for later records."""
    log = Log(0, 10)
    pending = barrier(log)
    assert await pending.reached([A], lambda _: 9) == []
    log.end_at = 20
    assert await pending.reached([A, B], lambda _: 10) == [A], "the second barrier waits for its own end"
    assert log.asked == ["end", "end"]
    assert looks == [(T3, 9, 10), (T3, 10, 20)]


async def test_a_repeated_barrier_has_a_new_end(looks: list[Any]) -> None:
    log = Log(0, 10)
    pending = barrier(log)
    assert await pending.reached([A], lambda _: 9) == []
    assert await pending.reached([], lambda _: 9) == []
    log.end_at = 20
    assert await pending.reached([A], lambda _: 10) == []
    assert looks[-1] == (T3, 10, 20)


@dataclass(frozen=True)
class Found:
    offset: int


class Consumer:
    """Returns these records one by one, after `empty` calls without a record. Its clock advances by one second with each call."""

    def __init__(self, *offsets: int, end: int, empty: int = 0) -> None:
        self.offsets, self.end, self.empty = list(offsets), end, empty
        self.at = -1
        self.assigned: list[TopicPartition] = []
        self.asked = 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert self.assigned == [tp]
        self.at = offset

    async def position(self, tp: TopicPartition) -> int:
        assert tp == T3
        return self.at

    async def getmany(self, tp: TopicPartition, *, timeout_ms: int) -> dict[TopicPartition, list[Found]]:
        assert timeout_ms > 0
        self.asked += 1
        if self.empty:
            self.empty -= 1
            return {}
        while self.offsets and self.offsets[0] < self.at:
            self.offsets.pop(0)
        self.at = self.offsets[0] + 1 if self.offsets else self.end
        return {tp: [Found(self.offsets.pop(0))]} if self.offsets else {}


@pytest.mark.parametrize(
    ("made", "nothing", "asked", "why"),
    [
        (lambda: Consumer(end=10), True, 1, "marks of transactions only"),
        (lambda: Consumer(7, end=10), False, 1, "a record"),
        (lambda: Consumer(10, end=12), True, 1, "a record behind the end"),
        (lambda: Consumer(9, end=10), False, 1, "a record just before the end"),
        (lambda: Consumer(end=10, empty=3), True, 4, "nothing was handed out for a while"),
        (lambda: Consumer(3, end=10), True, 1, "a record before the beginning"),
    ],
)
async def test_a_range_of_the_log_without_records_has_nothing_committed(
    made: Callable[[], Consumer], nothing: bool, asked: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barriers, "LOOK_S", 60)
    consumer = made()
    assert await look(consumer, monkeypatch) is nothing, why
    assert consumer.asked == asked, why


async def test_a_search_that_takes_too_long_finds_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "LOOK_S", -1)
    assert await look(Consumer(end=10, empty=3), monkeypatch) is False


async def test_an_empty_range_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(end=10)
    assert await look(consumer, monkeypatch, begin=10) is True
    assert consumer.asked == 0


async def look(consumer: Consumer, monkeypatch: pytest.MonkeyPatch, begin: int = 5) -> bool:
    """Searches the log from `begin` up to 10, with a consumer that is closed at the end."""
    closed = []

    @asynccontextmanager
    async def reading(_: KafkaSettings, **options: object) -> AsyncIterator[Consumer]:
        assert set(options) == {"fetch_max_wait_ms"}
        yield consumer
        closed.append(consumer)

    monkeypatch.setattr(barriers, "committed_consumer", reading)
    found = await barriers.nothing_committed(KafkaSettings(), T3, begin, 10)
    assert closed == [consumer]
    return found
