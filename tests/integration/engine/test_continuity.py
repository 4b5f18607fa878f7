"""Tests on a real broker that the engine stops and names topic and offsets if Kafka has lost records."""

import re
import shutil
from collections.abc import Iterable, Mapping
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata
from rocksdict import Cache

from app.engine import continuity
from app.engine.kafka import connection
from app.engine.store import Store
from app.engine.table import Table
from app.errors import ContinuityError
from tests.support.machine.waiting import until
from tests.support.streams.committed import settled_end
from tests.support.streams.continuity import EVENTS, SEEN, TaskHarness

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def anew(rig: TaskHarness, has: str) -> str:
    return (
        rf"topic {re.escape(rig.topic)} was recreated: .* Processed partitions of the old topic: "
        rf"0 through offset {EVENTS - 1}; its later records are lost. "
        rf"Unprocessed partitions of the new topic: {has}\."
    )


@pytest.mark.parametrize("records", [0, 5, EVENTS, 3 * EVENTS])
async def test_an_input_recreated_while_the_worker_was_down_is_refused_whatever_its_length(
    rig: TaskHarness, records: int
) -> None:
    await rig.close()
    await rig.recreate(rig.topic)
    await rig.send(records)
    with pytest.raises(ContinuityError, match=anew(rig, f"0 through offset {records - 1}" if records else "none")):
        await rig.reopen()


async def test_records_of_a_recreated_input_have_no_effect_although_their_offsets_fit(
    rig: TaskHarness,
) -> None:
    before = await rig.outputs()
    await rig.recreate(rig.topic)
    await rig.send(3 * EVENTS)
    fetched = await rig.fetch()
    assert fetched[0].offset == EVENTS, "the offsets go on where the old topic ended"
    rig.submit(fetched)
    assert re.search(anew(rig, ".*"), await rig.until_death()), "what the new one had when it was noticed"
    assert await rig.outputs() == before


async def test_a_recreated_idle_input_is_noticed_without_a_record(rig: TaskHarness) -> None:
    await rig.recreate(rig.topic)
    assert re.search(anew(rig, "none"), await rig.until_death())


async def test_an_input_that_is_deleted_is_noticed(rig: TaskHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "MISSING_GRACE_S", 0.2)
    await rig.admin.delete_topics([rig.topic])
    assert f"Processed partitions: 0 through offset {EVENTS - 1}" in (reason := await rig.until_death())
    assert "is gone from Kafka" in reason


async def test_a_batch_waits_while_kafka_cannot_be_asked(rig: TaskHarness) -> None:
    await rig.send(1)
    fetched = await rig.fetch()
    ask, asked = rig.engine.log.ids, 0

    async def away_at_first(names: Iterable[str]) -> dict[str, UUID]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise KafkaConnectionError("away")
        return await ask(names)

    rig.engine.log.ids = away_at_first  # type: ignore[method-assign]
    rig.submit(fetched)
    await until(lambda: rig.engine.cursors[rig.input].pending == 0)
    assert asked > 1
    assert rig.engine.durable_positions() == {rig.input: EVENTS + 1}


async def test_records_that_expired_before_they_were_processed_are_named(rig: TaskHarness) -> None:
    await rig.send(10)
    await rig.expire(EVENTS + 7)
    with pytest.raises(ContinuityError, match=f"expired before they were processed, offsets {EVENTS} to {EVENTS + 6}"):
        await rig.reopen()
    assert f"offsets {EVENTS} to {EVENTS + 6}" in str(await rig.engine.expired({rig.input: EVENTS}))


async def test_an_input_with_more_partitions_is_noticed_while_running_and_refused_at_the_start(
    rig: TaskHarness,
) -> None:
    await rig.repartition(rig.topic, 2)
    expected = f"topic {rig.topic} has 2 partitions, but state was made with 1"
    assert expected in await rig.until_death()
    with pytest.raises(ContinuityError, match=expected):
        await rig.reopen()


@pytest.mark.parametrize("table", ["seen", "positions"])
@pytest.mark.parametrize("state", ["warm", "cold"])
async def test_a_changelog_recreated_while_the_worker_was_down_is_refused(
    rig: TaskHarness, table: str, state: str
) -> None:
    await rig.close()
    await rig.recreate(rig.group.changelog(table))
    if state == "cold":
        shutil.rmtree(rig.state)
    with pytest.raises(ContinuityError, match=rf"changelog {rig.group.changelog(table)}/0 .*DOCTOR.md"):
        await rig.reopen()


async def test_a_changelog_recreated_while_the_worker_runs_is_noticed(rig: TaskHarness) -> None:
    await rig.recreate(rig.group.changelog("seen"))
    assert f"topic {rig.group.changelog('seen')} was recreated" in await rig.until_death()


@pytest.mark.parametrize("table", ["seen", "positions"])
async def test_a_changelog_with_more_partitions_is_noticed_while_running_and_refused_at_the_start(
    rig: TaskHarness, table: str
) -> None:
    changelog = rig.group.changelog(table)
    await rig.repartition(changelog, 2)
    expected = f"topic {changelog} has 2 partitions, but state was made with 1"
    assert expected in await rig.until_death()
    with pytest.raises(ContinuityError, match=expected):
        await rig.reopen()


async def test_a_changelog_that_is_missing_is_named(rig: TaskHarness) -> None:
    await rig.close()
    await rig.admin.delete_topics([rig.group.changelog("seen")])
    with pytest.raises(ContinuityError, match=rig.group.changelog("seen")):
        await rig.reopen()


async def test_the_loss_of_state_and_all_changelogs_is_detected_by_the_groups_committed_offsets(
    rig: TaskHarness,
) -> None:
    consumer = AIOKafkaConsumer(**connection(rig.kafka), group_id=rig.group.app_id)
    await consumer.start()
    consumer.assign([rig.input])
    await consumer.commit({rig.input: OffsetAndMetadata(EVENTS, "")})
    await consumer.stop()
    await rig.close()
    await rig.recreate(*(log.topic for log in rig.group.changelogs))
    with pytest.raises(
        ContinuityError, match=f"through offset {EVENTS - 1} according to consumer group .* has no state"
    ):
        await rig.reopen()


async def test_a_changelog_that_is_shorter_than_the_local_state_is_refused_with_the_lost_offsets(
    rig: TaskHarness,
) -> None:
    changelog = TopicPartition(rig.group.changelog("seen"), 0)
    end = await settled_end(rig.kafka, changelog)
    await rig.close()
    store = Store(rig.state / rig.group.app_id / "by-key" / "0", block_cache=Cache(1 << 20))
    store.write([], {"seen": end + 5})
    store.close()
    with pytest.raises(ContinuityError, match=f"Kafka has lost offsets {end} to {end + 4}, which had been committed"):
        await rig.reopen()


async def test_a_new_table_is_not_reported_as_lost(rig: TaskHarness) -> None:
    await rig.close()
    other: Table[bytes, bytes] = Table("other", bytes, bytes, bytes)
    object.__setattr__(rig.group, "tables", (SEEN, other))
    await rig.create(rig.group.changelog("other"))
    assert await rig.reopen() == EVENTS
    await rig.send(1)
    await rig.process()
    assert await rig.reopen() == EVENTS + 1


async def test_a_partition_revoked_during_the_request_for_its_offset_is_skipped(rig: TaskHarness) -> None:
    ask = rig.engine.log.beginning

    async def meanwhile(partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        await rig.engine.assign([])
        return await ask(partitions)

    rig.engine.log.beginning = meanwhile  # type: ignore[method-assign]
    assert await rig.engine.seek_offsets([rig.input]) == {}
