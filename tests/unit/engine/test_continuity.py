"""Tests the checks that topics are unchanged, with a scripted Kafka, and the messages about gaps."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Final

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from app.engine import continuity
from app.engine.continuity import (
    GUIDE,
    TopicChange,
    TopicWatch,
    cut_short,
    expired,
    repartitioned,
    state_gone,
    topic_recreated,
)

OLD, NEW, OTHER = (uuid.UUID(int=number) for number in (1, 2, 3))

Answer = Mapping[str, uuid.UUID] | Exception
Counts = Mapping[str, int] | Exception

PATIENCE_S: Final = 30
"""Timeout for events that happen at once or never."""


class Kafka:
    """Returns the given answers in order, then repeats the last one."""

    def __init__(self, *answers: Answer, counts: Counts | None = None) -> None:
        self.answers, self.counts, self.asked = list(answers), counts or {}, list[set[str]]()

    async def ids(self, names: Mapping[str, object]) -> dict[str, uuid.UUID]:
        self.asked.append(set(names))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    async def partition_counts(self, names: Mapping[str, object]) -> dict[str, int]:
        if isinstance(self.counts, Exception):
            raise self.counts
        return {name: count for name, count in self.counts.items() if name in names}


class Clock:
    """A clock that advances by one second with every call."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "RETRY_S", 0)
    monkeypatch.setattr(continuity, "INTERVAL_S", 0)
    monkeypatch.setattr(continuity, "time", SimpleNamespace(monotonic=Clock()))


async def answer(kafka: Kafka, **ids: uuid.UUID) -> TopicChange | None:
    """The findings of a watch of topics with these ids."""
    async with asyncio.timeout(PATIENCE_S):
        return await TopicWatch(kafka, ids)._answer()


@pytest.mark.parametrize(
    ("answers", "found", "asked", "why"),
    [
        ([{"t": OLD, "u": OTHER}], None, 1, "both are what they were"),
        ([{"t": NEW, "u": OTHER}], TopicChange("t", OLD, NEW), 1, "one was made anew"),
        ([{"t": OLD}, {"t": OLD, "u": OTHER}], None, 2, "a broker that has just started does not know all yet"),
        ([{"u": OTHER}, {"t": NEW, "u": OTHER}], TopicChange("t", OLD, NEW), 2, "one was gone, and is made anew"),
        ([KafkaConnectionError("down"), {"t": OLD, "u": OTHER}], None, 2, "a broker that is away is asked again"),
        ([{"t": OLD, "u": OTHER, "v": NEW}], None, 1, "a topic that nobody watches may be anything"),
    ],
)
async def test_a_change_is_found_in_the_first_answer_that_shows_it(
    answers: list[Answer], found: TopicChange | None, asked: int, why: str
) -> None:
    kafka = Kafka(*answers)
    assert await answer(kafka, t=OLD, u=OTHER) == found, why
    assert kafka.asked == [{"t", "u"}] * asked, why


async def test_a_topic_is_gone_when_it_was_missing_for_longer_than_the_grace() -> None:
    kafka = Kafka({"u": OTHER})
    assert await answer(kafka, t=OLD, u=OTHER) == TopicChange("t", OLD, None)
    # One second passes between two answers: at the seventh answer, more than five seconds have passed since the first.
    assert len(kafka.asked) == 2 + continuity.MISSING_GRACE_S


async def test_simultaneous_questions_share_one_answer_and_later_ones_get_another() -> None:
    kafka = Kafka({"t": OLD})
    watch = TopicWatch(kafka, {"t": OLD})
    first, same = watch.ask(), watch.ask()
    assert first is same
    assert await first is None
    later = watch.ask()
    assert later is not first
    assert await later is None
    assert len(kafka.asked) == 2


async def test_a_question_waits_for_the_previous_one() -> None:
    """An answer is valid for a time after its question, so the answer to an earlier question does not answer a later one."""
    gate = asyncio.Event()

    class Slow(Kafka):
        async def ids(self, names: Mapping[str, object]) -> dict[str, uuid.UUID]:
            found = await super().ids(names)
            await gate.wait()
            return found

    kafka = Slow({"t": OLD}, {"t": NEW})
    watch = TopicWatch(kafka, {"t": OLD})
    first = watch.ask()
    while not kafka.asked:
        await asyncio.sleep(0)
    second = watch.ask()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(kafka.asked) == 1, "one at a time"
    gate.set()
    assert await first is None
    assert await second == TopicChange("t", OLD, NEW)


@pytest.mark.parametrize(
    ("counts", "found", "why"),
    [
        ({"t": 6}, TopicChange("t", OLD, OLD, 6), "it has more partitions than before"),
        ({"t": 4, "u": 9}, TopicChange("u", OTHER, OTHER, 9), "another one has"),
        ({"t": 4}, None, "it has as many"),
        ({}, None, "it is not there: that is for the ids to say"),
        (KafkaConnectionError("down"), None, "Kafka does not say"),
    ],
)
async def test_a_topic_keeps_its_number_of_partitions(counts: Counts, found: TopicChange | None, why: str) -> None:
    watch = TopicWatch(Kafka({"t": OLD}, counts=counts), {"t": OLD, "u": OTHER}, {"t": 4, "u": 4})
    assert await watch._recount() == found, why


async def test_the_partition_count_of_a_topic_without_an_id_is_ignored() -> None:
    assert await TopicWatch(Kafka({}, counts={"t": 6}), {}, {"t": 4})._recount() is None


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (lambda: Kafka({"t": OLD}, {"t": OLD}, {"t": NEW}, counts={"t": 4}), TopicChange("t", OLD, NEW)),
        (lambda: Kafka({"t": OLD}, counts={"t": 5}), TopicChange("t", OLD, OLD, 5)),
    ],
    ids=["another id", "another number of partitions"],
)
async def test_a_change_is_noticed_although_no_batch_comes(made: Callable[[], Kafka], found: TopicChange) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert await TopicWatch(made(), {"t": OLD}, {"t": 4}).next_change() == found


async def test_a_closed_watch_sends_no_requests() -> None:
    gate = asyncio.Event()

    class Silent(Kafka):
        async def ids(self, names: Mapping[str, object]) -> dict[str, uuid.UUID]:
            self.asked.append(set(names))
            await gate.wait()
            return {}

    kafka = Silent({})
    watch = TopicWatch(kafka, {"t": OLD})
    first = watch.ask()
    while not kafka.asked:
        await asyncio.sleep(0)
    second = watch.ask()
    async with asyncio.timeout(PATIENCE_S):
        await watch.close()
    assert first.cancelled()
    assert second.cancelled()
    await TopicWatch(kafka).close()


T2: Final = TopicPartition("t", 2)


@pytest.mark.parametrize(
    ("tell", "says"),
    [
        (
            lambda: expired(T2, 5, 9),
            "t/2 was processed through offset 4, but Kafka begins with 9: records expired before they were processed, offsets 5 to 8. ",
        ),
        (
            lambda: cut_short(T2, 9, 5),
            "t/2 was processed through offset 8, but Kafka ends with 4: it has lost offsets 5 to 8, which had been committed. ",
        ),
        (
            lambda: state_gone(T2, 9, "bank"),
            ("t/2 was processed through offset 8 according to consumer group bank, but it has no state: "
            "its changelogs were deleted or recreated. "),
        ),
        (
            lambda: repartitioned("t", 6, 4),
            ("topic t has 6 partitions, but state was made with 4 (BANKSTREAM_TOPIC_PARTITIONS): "
            "a key and its state must be in partitions with the same number. "),
        ),
        (
            lambda: topic_recreated(TopicChange("t", OLD, None), {0: 5, 1: 1}, {}),
            (f"topic t (id {OLD}) is gone from Kafka. Processed partitions: 0 through offset 4, 1 through offset 0; "
            "its later records are lost. "),
        ),
        (
            lambda: topic_recreated(TopicChange("t", OLD, NEW), {}, {0: 3, 1: 0, 2: 8}),
            (f"topic t was recreated: its id was {OLD}, now it is {NEW}. Processed partitions of the old topic: none; "
            "its later records are lost. Unprocessed partitions of the new topic: 0 through offset 2, 2 through offset 7. "),
        ),
        (
            lambda: topic_recreated(TopicChange("t", OLD, NEW), {0: 5}, {0: 0}),
            (f"topic t was recreated: its id was {OLD}, now it is {NEW}. Processed partitions of the old topic: 0 through "
            "offset 4; its later records are lost. Unprocessed partitions of the new topic: none. "),
        ),
    ],
)  # fmt: skip
def test_the_message_about_a_gap_names_the_lost_offsets(tell: Callable[[], str], says: str) -> None:
    assert tell() == says + GUIDE
