"""Tests that the comparison finds every difference from the changelogs, and only in partitions that are restored to the end."""

from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from rocksdict import Cache

from app.config.settings import KafkaSettings
from app.engine.kafka import connection
from app.engine.partition_group import POSITIONS, PartitionGroup
from app.engine.store import Store
from app.engine.table import Table
from app.engine.topic_admin import TopicSpec, ensure_topics
from app.local.stack.stack import Stack
from tests.faults.instruments.state_comparison import compare_state
from tests.support.machine.stack import settings_of

pytestmark = pytest.mark.integration

SEEN: Table[bytes, bytes] = Table("seen", bytes, bytes, bytes)
Change = tuple[str, bytes, bytes | None]


async def test_complete_partitions_are_compared_and_differences_are_named(kafka_stack: Stack, tmp_path: Path) -> None:
    kafka = settings_of(kafka_stack, KafkaSettings)
    group = PartitionGroup(f"audit-{uuid4().hex[:8]}", "g", ("in",), (SEEN,), 1, lambda _: 1, "letters")
    await ensure_topics([TopicSpec(log.topic, 1, {"cleanup.policy": "compact"}) for log in group.changelogs], kafka)
    async with (
        AIOKafkaProducer(**connection(kafka), transactional_id=group.app_id) as producer,
        producer.transaction(),
    ):
        for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"b", None)):
            await producer.send(group.changelog("seen"), value, key)
        await producer.send(group.changelog(POSITIONS), b"5", b"in")
    path = tmp_path / group.app_id / "g" / "0"

    async def audited(*changes: Change, end: int = 4) -> tuple[int, list[str]]:
        store = Store(path, block_cache=Cache(1 << 20))
        store.write(changes, {"seen": end, POSITIONS: 1})
        store.close()
        return await compare_state(tmp_path, [group], kafka)

    assert await compare_state(tmp_path, [group], kafka) == (0, []), "there is no store yet"
    assert await audited((POSITIONS, b"in", b"5"), end=3) == (0, []), "the last record is missing"
    assert await audited(("seen", b"a", b"3")) == (2, [])
    for wrong in (("seen", b"a", b"1"), ("seen", b"a", None), ("seen", b"b", b"2")):
        compared, [difference] = await audited(("seen", b"a", b"3"), wrong)
        assert compared == 2
        assert "table seen: 1 of 1" in difference
