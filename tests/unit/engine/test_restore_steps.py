"""Tests the steps of a restore without a broker: which store is kept, where its replay begins, and the messages about gaps."""

import asyncio
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from prometheus_client import REGISTRY
from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings
from app.engine import restore as restores
from app.engine.derivation import TOMBSTONE
from app.engine.restore import Changelog, restore
from app.engine.store import Store
from app.errors import BankstreamError, ContinuityError

COMPACTED = Changelog("balances", "app-balances-changelog", None)
EXPIRING = Changelog("seen", "app-seen-changelog", 1_000)
IDS = {COMPACTED.topic: uuid.UUID(int=1), EXPIRING.topic: uuid.UUID(int=2)}
NUMBER = 3
TP = TopicPartition(COMPACTED.topic, NUMBER)


@dataclass(frozen=True)
class LogRecord:
    key: bytes
    value: bytes | None


@dataclass
class Slice:
    """Part of a changelog, as `ChangelogReader` returns it."""

    tp: TopicPartition
    records: list[LogRecord]
    next: int

    def __iter__(self) -> Iterator[LogRecord]:
        return iter(self.records)


class Kafka:
    """Changelogs as lists of (key, value), each with the offset of its first entry. `None` is a transaction marker."""

    def __init__(self, **logs: list[tuple[bytes, bytes | None] | None]) -> None:
        self.logs = {TopicPartition(f"app-{table}-changelog", NUMBER): log for table, log in logs.items()}
        self.first: dict[TopicPartition, int] = dict.fromkeys(self.logs, 0)
        self.asked: list[dict[TopicPartition, int]] = []
        self.expiring: dict[TopicPartition, int] = {}
        """The begin of each changelog after its first request."""

    async def end(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {tp: self.first[tp] + len(self.logs[tp]) for tp in partitions}

    async def beginning(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {tp: self.first[tp] for tp in partitions}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch(self, positions: Mapping[TopicPartition, int]) -> list[Any]:
        """Returns two offsets of each changelog."""
        self.asked.append(dict(positions))
        for tp, first in self.expiring.items():
            self.logs[tp] = self.logs[tp][first - self.first[tp] :]
            self.first[tp] = first
        self.expiring = {}
        gone = {tp: offset for tp, offset in positions.items() if offset < self.first[tp]}
        if gone:
            raise OffsetOutOfRangeError(gone)
        return [
            Slice(tp, [LogRecord(*it) for it in found if it is not None], offset + len(found))
            for tp, offset in positions.items()
            if (found := self.logs[tp][offset - self.first[tp] :][:2])
        ]


@pytest.fixture
def cache() -> Cache:
    return Cache(1 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "3"


async def restored(
    path: Path,
    kafka: Kafka,
    cache: Cache,
    *,
    ids: Mapping[str, uuid.UUID] = IDS,
    derived: bool = False,
    **settings: Any,
) -> tuple[dict[str, dict[bytes, bytes]], dict[str, int], int]:
    """The contents of the restored store, its offset in each changelog, and the number of replayed records. The store is closed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restores, "ChangelogReader", lambda _: kafka)
        changelogs = [it for it in (COMPACTED, EXPIRING) if TopicPartition(it.topic, NUMBER) in kafka.logs]
        changelogs = [replace(it, is_stored=not derived) for it in changelogs]
        store, replayed = await restore(
            path,
            changelogs,
            NUMBER,
            ids=ids,
            kafka=KafkaSettings(),
            engine=EngineSettings(**settings),
            log=kafka,  # type: ignore[arg-type]
            cache=cache,
        )
    assert not store.bulk, "what comes out of a restore is for use"
    held = {it.table: dict(store.scan(it.table)) for it in changelogs}
    reached = {it.table: store.changelog_offset(it.table) for it in changelogs}
    assert time.time() - store.caught_up_at < 60, "it is at the end of its changelogs"
    store.close()
    return held, reached, replayed


def restores_told(kind: str) -> float:
    return REGISTRY.get_sample_value("bankstream_restores_total", {"state": kind}) or 0.0


LOG: list[tuple[bytes, bytes | None] | None] = [(b"a", b"1"), (b"b", b"1"), None, (b"a", None), (b"c", b"2"), None]


async def test_a_new_store_has_the_last_values_of_its_changelogs(path: Path, cache: Cache) -> None:
    kafka = Kafka(balances=LOG, seen=[(b"x", b"9")])
    before = restores_told("cold")
    held, reached, replayed = await restored(path, kafka, cache)
    assert restores_told("cold") - before == 1
    assert held == {"balances": {b"b": b"1", b"c": b"2"}, "seen": {b"x": b"9"}}
    assert (reached, replayed) == ({"balances": 6, "seen": 1}, 5)
    seen = TopicPartition(EXPIRING.topic, NUMBER)
    assert kafka.asked == [{TP: 0, seen: 0}, {TP: 2}, {TP: 4}], "what is at its end is asked for no more"


async def test_an_existing_store_replays_only_missing_records(path: Path, cache: Cache) -> None:
    await restored(path, Kafka(balances=LOG[:3]), cache)
    kafka, before = Kafka(balances=LOG), restores_told("warm")
    held, _, replayed = await restored(path, kafka, cache)
    assert (held, replayed) == ({"balances": {b"b": b"1", b"c": b"2"}}, 2)
    assert kafka.asked == [{TP: 3}, {TP: 5}]
    assert restores_told("warm") - before == 1
    again = Kafka(balances=LOG)
    assert (await restored(path, again, cache))[2] == 0
    assert again.asked == []


async def test_a_long_replay_is_loaded_in_bulk(path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []

    class Watched(Store):
        def __init__(self, path: Path, *, block_cache: Cache, bulk: bool = False) -> None:
            opened.append(bulk)
            super().__init__(path, block_cache=block_cache, bulk=bulk)

    monkeypatch.setattr(restores, "Store", Watched)
    monkeypatch.setattr(restores, "BULK_OFFSETS", len(LOG))
    held, _, _ = await restored(path, Kafka(balances=LOG), cache)
    assert (held["balances"], opened) == ({b"b": b"1", b"c": b"2"}, [False, True, False])
    opened.clear()
    await restored(path.with_name("4"), Kafka(balances=LOG[:-1]), cache)
    assert opened == [False], "one fewer is replayed as it is"
    opened.clear()
    await restored(path, Kafka(balances=[*LOG, *LOG[:-1]]), cache)
    assert opened == [False], "what the store has already does not count"


async def test_a_store_of_other_changelogs_is_recreated(path: Path, cache: Cache) -> None:
    await restored(path, Kafka(balances=[(b"old", b"1")] * 9), cache)
    before = restores_told("discarded")
    held, _, replayed = await restored(path, Kafka(balances=LOG), cache, ids={COMPACTED.topic: uuid.UUID(int=9)})
    assert (held, replayed) == ({"balances": {b"b": b"1", b"c": b"2"}}, 4)
    assert restores_told("discarded") - before == 1


@pytest.mark.parametrize(("age_s", "kept"), [(restores.MAX_AGE_S - 60, True), (restores.MAX_AGE_S + 60, False)])
async def test_a_store_that_may_have_missed_deletions_is_recreated(
    age_s: float, kept: bool, path: Path, cache: Cache
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = time.time()
        patch.setattr("app.engine.store.time.time", lambda: now - age_s)
        store = restores._open_store(path, b"identity", cache)
        store.write([("balances", b"old", b"1")], {"balances": 1})
        store.close()
    store = restores._open_store(path, b"identity", cache)
    assert store.get("balances", b"old") == (b"1" if kept else None)
    assert store.identity == b"identity"
    store.close()


def test_a_store_older_than_half_of_the_tombstone_retention_is_recreated() -> None:
    assert restores.MAX_AGE_S == 3.5 * 24 * 3600


async def test_a_changelog_that_ends_before_the_store_has_lost_records(path: Path, cache: Cache) -> None:
    await restored(path, Kafka(balances=LOG), cache)
    says = rf"^changelog {COMPACTED.topic}/3 ends with offset 3, but local state {path} has it through 5: Kafka has lost offsets 4 to 5"
    with pytest.raises(ContinuityError, match=says):
        await restored(path, Kafka(balances=LOG[:4]), cache)
    held, _, _ = await restored(path, Kafka(balances=LOG), cache)
    assert held == {"balances": {b"b": b"1", b"c": b"2"}}, "the store was closed, and is as it was"


async def test_a_compacted_changelog_that_begins_after_the_stores_offset_is_a_gap(path: Path, cache: Cache) -> None:
    kafka = Kafka(balances=LOG)
    kafka.first[TP] = 1
    with pytest.raises(
        ContinuityError, match=rf"^changelog {COMPACTED.topic}/3 begins at offset 1, local state ends at 0: "
    ):
        await restored(path, kafka, cache)


async def test_a_changelog_that_expires_by_age_is_read_from_where_it_begins(path: Path, cache: Cache) -> None:
    kafka = Kafka(seen=[(b"x", b"1"), (b"y", b"2")])
    tp = TopicPartition(EXPIRING.topic, NUMBER)
    kafka.first[tp] = 40
    held, reached, _ = await restored(path, kafka, cache)
    assert (held, reached) == ({"seen": {b"x": b"1", b"y": b"2"}}, {"seen": 42})
    assert kafka.asked == [{tp: 40}]


async def test_records_that_expire_just_before_they_are_read_are_skipped(path: Path, cache: Cache) -> None:
    kafka = Kafka(seen=[(b"x", b"1"), (b"y", b"2"), (b"z", b"3")])
    tp = TopicPartition(EXPIRING.topic, NUMBER)
    kafka.expiring = {tp: 2}
    held, _, replayed = await restored(path, kafka, cache)
    assert (held, replayed) == ({"seen": {b"z": b"3"}}, 1)
    assert kafka.asked == [{tp: 0}, {tp: 2}]


async def test_compacted_records_that_are_deleted_just_before_they_are_read_are_a_gap(path: Path, cache: Cache) -> None:
    kafka = Kafka(balances=LOG)
    kafka.expiring = {TP: 2}
    with pytest.raises(ContinuityError, match="begins at offset 2, local state ends at 0"):
        await restored(path, kafka, cache)


async def test_a_refused_offset_that_kafka_has_is_an_error(path: Path, cache: Cache) -> None:
    class Refusing(Kafka):
        async def fetch(self, positions: Mapping[TopicPartition, int]) -> list[Any]:
            raise OffsetOutOfRangeError(dict(positions))

    with pytest.raises(OffsetOutOfRangeError):
        await restored(path, Refusing(balances=LOG), cache)


async def test_a_restore_that_takes_too_long_names_the_setting_of_the_limit(path: Path, cache: Cache) -> None:
    class Stuck(Kafka):
        async def fetch(self, _: Mapping[TopicPartition, int]) -> list[Any]:
            await asyncio.Event().wait()
            return []

    with pytest.raises(BankstreamError, match=r"longer than 1 s \(BANKSTREAM_ENGINE_RESTORE_TIMEOUT_S\)"):
        await restored(path, Stuck(balances=LOG), cache, restore_timeout_s=1)
    assert (await restored(path, Kafka(balances=LOG), cache))[2] == 4, "the store was closed"


async def test_a_store_without_derived_tables_is_taken_over_and_an_older_version_rebuilds_one_that_has_them(
    path: Path, cache: Cache
) -> None:
    """The older version would find nothing in the tables that it reads."""
    kafka = Kafka(balances=LOG)
    await restored(path, kafka, cache)
    warm, discarded = restores_told("warm"), restores_told("discarded")
    held, _, replayed = await restored(path, kafka, cache, derived=True)
    assert (held["balances"], replayed) == ({b"b": b"1", b"c": b"2"}, 0)
    assert (await restored(path, kafka, cache, derived=True))[2] == 0
    assert (restores_told("warm"), restores_told("discarded")) == (warm + 2, discarded)
    held, _, replayed = await restored(path, kafka, cache)
    assert (held["balances"], replayed > 0, restores_told("discarded")) == (
        {b"b": b"1", b"c": b"2"},
        True,
        discarded + 1,
    )


async def test_taking_a_store_over_does_not_make_it_young(
    path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = Kafka(balances=LOG)
    await restored(path, kafka, cache)
    discarded = restores_told("discarded")
    monkeypatch.setattr(restores, "MAX_AGE_S", -1.0)
    await restored(path, kafka, cache, derived=True)
    assert restores_told("discarded") == discarded + 1


async def test_a_deletion_stays_in_the_store_until_the_derived_table_knows_it(path: Path, cache: Cache) -> None:
    held, _, _ = await restored(path, Kafka(balances=LOG), cache, derived=True)
    assert held["balances"] == {b"a": TOMBSTONE, b"b": b"1", b"c": b"2"}
