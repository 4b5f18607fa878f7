"""Tests on a real broker that a restore from changelogs gives exactly the committed changes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings
from app.engine import changelog
from app.engine import restore as restoring
from app.engine.kafka import KafkaLog, connection
from app.engine.restore import Changelog, restore
from app.engine.store import Store
from app.engine.topic_admin import TopicSpec, ensure_topics
from app.engine.transactional_producer import TransactionalProducer
from app.errors import BankstreamError
from app.local.stack.stack import Stack
from tests.support.machine.stack import settings_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Content = dict[bytes, bytes]


class Changelogs:
    """Two changelogs of one partition, written in transactions, and the expected contents of the store."""

    def __init__(self, kafka: KafkaSettings, state: Path) -> None:
        self.kafka, self.state = kafka, state
        name = uuid4().hex
        self.logs = tuple(Changelog(table, f"restore-{table}-{name}", None) for table in ("left", "right"))
        self.content: dict[str, Content] = {"left": {}, "right": {}}
        self._transactions = TransactionalProducer(f"restore-{name}", kafka, EngineSettings())
        self._id = f"restore-aborting-{name}"
        self._cache = Cache(1 << 20)

    async def start(self) -> None:
        await ensure_topics([TopicSpec(log.topic, 1, {"cleanup.policy": "compact"}) for log in self.logs], self.kafka)
        await self._transactions.start()

    async def stop(self) -> None:
        await self._transactions.stop()

    async def write(self, table: str, changes: Mapping[bytes, bytes | None]) -> None:
        topic = next(log.topic for log in self.logs if log.table == table)
        await self._transactions.commit({(topic, 0): list(changes.items())})
        for key, value in changes.items():
            if value is None:
                self.content[table].pop(key, None)
            else:
                self.content[table][key] = value

    def aborting(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(**connection(self.kafka), transactional_id=self._id)

    async def abort(self, table: str, changes: Mapping[bytes, bytes]) -> None:
        """Writes a transaction and aborts it."""
        topic = next(log.topic for log in self.logs if log.table == table)
        async with self.aborting() as producer:
            await producer.begin_transaction()
            for key, value in changes.items():
                await producer.send_and_wait(topic, key=key, value=value, partition=0)
            await producer.abort_transaction()

    async def restore(self, *, timeout_s: int = 30) -> int:
        """Restores, compares, and returns the number of replayed records."""
        engine = EngineSettings().model_copy(update={"restore_timeout_s": timeout_s})
        async with KafkaLog(self.kafka) as log:
            ids = {name: info.id for name, info in (await log.require(one.topic for one in self.logs)).items()}
            store, replayed = await restore(
                self.state, self.logs, 0, ids=ids, kafka=self.kafka, engine=engine, log=log, cache=self._cache
            )
        try:
            assert {table: dict(store.scan(table)) for table in self.content} == self.content
        finally:
            store.close()
        return replayed


@pytest.fixture
async def changelogs(kafka_stack: Stack, tmp_path: Path) -> AsyncIterator[Changelogs]:
    found = Changelogs(settings_of(kafka_stack, KafkaSettings), tmp_path / "0")
    await found.start()
    yield found
    await found.stop()


@pytest.mark.parametrize("bulk_offsets", [1, 50_000], ids=["bulk", "as it is"])
async def test_committed_changes_are_restored_and_aborted_ones_are_not(
    changelogs: Changelogs, bulk_offsets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "BULK_OFFSETS", bulk_offsets)
    for number in range(20):
        await changelogs.write("left", {b"%d" % at: b"%d" % number for at in range(number, number + 30)})
        await changelogs.abort("left", {b"%d" % at: b"never" for at in range(number, number + 30)})
    await changelogs.write("right", {b"a": b"1", b"b": b"2"})
    await changelogs.write("right", {b"a": None})
    await changelogs.abort("right", {b"b": b"never"})
    assert await changelogs.restore() == 20 * 30 + 3
    assert await changelogs.restore() == 0
    await changelogs.write("right", {b"c": b"3"})
    assert await changelogs.restore() == 1


async def test_a_restore_waits_for_open_transactions_and_reports_one_that_does_not_end(
    changelogs: Changelogs,
) -> None:
    async with changelogs.aborting() as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(changelogs.logs[0].topic, key=b"a", value=b"1", partition=0)
        with pytest.raises(BankstreamError, match="an open transaction of another process"):
            await changelogs.restore(timeout_s=1)
        waiting = asyncio.create_task(changelogs.restore())
        done, _ = await asyncio.wait({waiting}, timeout=1)
        assert not done
        await producer.commit_transaction()
        changelogs.content["left"] = {b"a": b"1"}
        assert await waiting == 1


async def test_a_record_larger_than_a_fetch_is_restored(
    changelogs: Changelogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog, "FETCH_BYTES", 10_000)
    monkeypatch.setattr(changelog, "PARTITION_BYTES", 5_000)
    for table in ("left", "right"):
        await changelogs.write(table, {b"small": b"1"})
        await changelogs.write(table, {b"large": bytes(200_000)})
        await changelogs.write(table, {b"small": b"2"})
    assert await changelogs.restore() == 6


def test_a_store_in_use_is_not_opened_twice(tmp_path: Path) -> None:
    held = Store(tmp_path / "0", block_cache=Cache(1 << 20))
    with pytest.raises(BankstreamError, match="is in use by another process"):
        restoring._open_store(tmp_path / "0", b"identity", Cache(1 << 20))
    held.close()
