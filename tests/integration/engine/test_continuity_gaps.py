"""Tests that an accepted gap is recorded and then skipped, and that only lost offsets can be accepted."""

from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from app.config.settings import EngineSettings
from app.config.topics import HEARTBEAT
from app.engine.kafka import KafkaLog
from app.operations.gaps import Decision, GapError, accept_capture, accept_lake, accept_streams
from sinks import gaps
from sinks.base import ChainKey
from sinks.chain_verification import verify_chain
from sinks.memory import InMemoryObjectStore
from tests.support.machine.waiting import until
from tests.support.streams.continuity import EVENTS, TaskHarness
from tests.support.warehouse.sinks import archived, partition, records

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DECISION = Decision("they were test records", "ada", "2026-01-01T00:00:00+00:00")


async def accept(rig: TaskHarness, store: InMemoryObjectStore) -> Sequence[gaps.GapRecord]:
    return await accept_streams(store, rig.kafka, EngineSettings(), [rig.group], rig.input, DECISION)


async def test_the_streams_continue_after_expired_records_once_the_gap_is_accepted(rig: TaskHarness) -> None:
    store = InMemoryObjectStore()
    await rig.send(10)
    await rig.expire(EVENTS + 7)
    await rig.close()
    [gap] = await accept(rig, store)
    assert (gap.first, gap.last, gap.resumes_at) == (EVENTS, EVENTS + 6, EVENTS + 7)
    assert (gap.reason, gap.accepted_by) == ("they were test records", "ada")
    assert await gaps.gaps(store) == [gap]
    assert await rig.reopen() == EVENTS + 7
    await rig.process()
    assert rig.engine.durable_positions() == {rig.input: EVENTS + 10}


async def test_the_streams_continue_with_a_recreated_topic_once_the_gap_is_accepted(rig: TaskHarness) -> None:
    store = InMemoryObjectStore()
    await rig.close()
    await rig.recreate(rig.topic)
    await rig.send(3)
    [gap] = await accept(rig, store)
    assert (gap.first, gap.last, gap.resumes_at) == (EVENTS, None, 0)
    assert gap.topic_id != gap.resumes_topic_id
    assert await rig.reopen() == 0
    await rig.process()
    assert rig.engine.durable_positions() == {rig.input: 3}
    with pytest.raises(GapError, match="nothing is lost"):
        await accept(rig, store)


async def test_accepting_a_gap_fences_a_worker_that_has_the_partition_open(rig: TaskHarness) -> None:
    await rig.send(10)
    fetched = await rig.fetch()
    await rig.expire(EVENTS + 7)
    await accept(rig, InMemoryObjectStore())
    rig.submit(fetched)
    await until(lambda: bool(rig.causes))
    assert type(rig.causes[0]).__name__ == "FencedError"


async def test_only_lost_offsets_can_be_accepted(rig: TaskHarness) -> None:
    store = InMemoryObjectStore()
    await rig.send(1)
    await rig.close()
    with pytest.raises(GapError, match="nothing is lost"):
        await accept(rig, store)
    with pytest.raises(GapError, match="has no partition 7"):
        await accept_lake(store, rig.kafka, TopicPartition(rig.topic, 7), DECISION)
    with pytest.raises(GapError, match="none of its records were archived"):
        await accept_lake(store, rig.kafka, rig.input, DECISION)
    assert await gaps.gaps(store) == []


async def id_now(rig: TaskHarness) -> str:
    async with KafkaLog(rig.kafka) as log:
        return str((await log.require([rig.topic]))[rig.topic].id)


async def test_the_lake_continues_after_two_accepted_gaps_in_one_chain(rig: TaskHarness) -> None:
    store, topic_id = InMemoryObjectStore(), await id_now(rig)

    async def archive(*offsets: int) -> int | None:
        one = partition(store, topic=rig.topic, topic_id=topic_id, max_rows=len(offsets) or 1)
        try:
            begins = await one.open()
            if offsets:
                await one.process(records(*offsets, topic=rig.topic))
                await archived(one, offsets[-1] + 1)
            return begins
        finally:
            await one.close()

    assert await archive(0, 1) is None
    with pytest.raises(GapError, match="nothing is lost"):
        await accept_lake(store, rig.kafka, rig.input, DECISION)
    await rig.expire(5)
    first = await accept_lake(store, rig.kafka, rig.input, DECISION)
    assert (first.first, first.last, first.resumes_at) == (2, 4, 5)
    assert await archive() == 5
    await rig.expire(8)
    second = await accept_lake(store, rig.kafka, rig.input, DECISION)
    assert (second.first, second.last, second.resumes_at) == (5, 7, 8)
    assert await archive(8, 9) == 8
    key = ChainKey(rig.topic, topic_id, 0)
    assert [row.offset async for _, rows in verify_chain(store, key) for row in rows] == [0, 1, 8, 9]
    assert await gaps.gaps(store) == [first, second]


async def test_unarchived_records_of_a_deleted_topic_are_reported_until_the_gap_is_accepted(
    rig: TaskHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "sinks.archive")
    store, old = InMemoryObjectStore(), await id_now(rig)
    one = partition(store, topic=rig.topic, topic_id=old, max_rows=2)
    await one.open()
    await one.process(records(0, 1, topic=rig.topic))
    await archived(one, 2)
    await one.close()
    await rig.close()
    await rig.recreate(rig.topic)
    another = partition(store, topic=rig.topic, topic_id=(new := await id_now(rig)))
    await another.open()
    await another.close()
    assert f"with id {old} ends with offset 1, " in caplog.text
    caplog.clear()
    gap = await accept_lake(store, rig.kafka, rig.input, DECISION, topic_id=old)
    await another.open()
    await another.close()
    assert caplog.text == "", "no alarm once it is accepted"
    assert (gap.topic_id, gap.first, gap.last) == (old, 2, None)
    assert gap.resumes_topic_id == new


BEATS = [
    b'{"op":"r","source":{"lsn":100}}', b'{"op":"u","source":{"lsn":200}}', b'{"op":"r","source":{"lsn":900}}',
    b'{"op":"u","source":{"lsn":950}}',
]  # fmt: skip


async def test_changes_that_were_not_captured_are_accepted_by_their_range(rig: TaskHarness) -> None:
    await rig.create(HEARTBEAT.name)
    await rig.send_values(HEARTBEAT.name, *BEATS)
    store = InMemoryObjectStore()
    with pytest.raises(GapError, match=r"no gap 0/1\.\.0/2\. They show: .*0/C8\.\.0/384"):
        await accept_capture(store, rig.kafka, "bank", "0/1..0/2", DECISION)
    gap = await accept_capture(store, rig.kafka, "bank", "0/C8..0/384", DECISION)
    assert (gap.first, gap.last) == (200, 900)
    again = await accept_capture(store, rig.kafka, "bank", "0/C8..0/384", Decision("other", "bob", "later"))
    assert again == gap, "what is written down stays as it is"
