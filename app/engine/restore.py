"""Bringing a partition's store up to the end of its changelogs: the step that makes a crash, a move or a lost disk harmless."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from rocksdict import Cache

from app.engine.kafka import KafkaLog, connection
from app.engine.store import Store
from app.errors import BankstreamError, ContinuityError
from app.settings import EngineSettings, KafkaSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changelog:
    """A table's changelog topic. `retention_ms` None: compacted, so that its beginning never matters."""

    table: str
    topic: str
    retention_ms: int | None


async def restore(
    path: Path,
    changelogs: Sequence[Changelog],
    number: int,
    *,
    kafka: KafkaSettings,
    engine: EngineSettings,
    log: KafkaLog,
    cache: Cache,
) -> tuple[Store, int]:
    """Open the store at `path` and replay what it lacks. Answers the store and how many changelog records were replayed.

    The caller must have fenced the previous owner already; its last transaction may still be without its markers, so this waits until
    the last stable offset has reached the high watermark. A store that was made from other changelogs (their topic ids differ), that is
    ahead of them or that RocksDB finds damaged is thrown away and made again.
    """
    topics = await log.require(changelog.topic for changelog in changelogs)
    if wrong := sorted(name for name, info in topics.items() if info.partitions <= number):
        raise ContinuityError(
            f"changelog {', '.join(wrong)} has no partition {number}: it was created with another partition count"
        )
    identity = hashlib.sha256("".join(str(topics[c.topic].id) for c in changelogs).encode()).digest()
    partitions = {TopicPartition(changelog.topic, number): changelog for changelog in changelogs}
    high_watermarks = await log.end(partitions)
    first_kept = await log.beginning(partitions)
    store = _open_store(path, identity, cache)
    for partition, changelog in partitions.items():
        if store.changelog_offset(changelog.table) > high_watermarks[partition]:
            logger.warning("local state %s is ahead of %s: made again from the changelogs", path, changelog.topic)
            store = _remake(store, identity, cache)
            break
    starts = {tp: _start(store, tp, changelog, first_kept[tp]) for tp, changelog in partitions.items()}
    try:
        async with asyncio.timeout(engine.restore_timeout_s):
            return store, await _replay(store, partitions, starts, high_watermarks, kafka)
    except TimeoutError:
        store.close()
        raise BankstreamError(
            f"restoring {path} took longer than {engine.restore_timeout_s} s (BANKSTREAM_ENGINE_RESTORE_TIMEOUT_S); "
            "an open transaction of another process may hold the changelog's last stable offset"
        ) from None


def _open_store(path: Path, identity: bytes, cache: Cache) -> Store:
    try:
        store = Store(path, block_cache=cache)
    except Exception as error:
        if "lock" in str(error).lower():
            raise BankstreamError(
                f"local state {path} is in use by another process. Give each worker its own BANKSTREAM_ENGINE_STATE_DIR."
            ) from error
        logger.warning("local state %s cannot be opened (%s): made again from the changelogs", path, error)
        Store.destroy(path)
        store = Store(path, block_cache=cache)
    if store.identity is None:
        store.set_identity(identity)
    elif store.identity != identity:
        logger.warning("local state %s belongs to changelogs that no longer exist: made again", path)
        store = _remake(store, identity, cache)
    return store


def _remake(store: Store, identity: bytes, cache: Cache) -> Store:
    store.close()
    Store.destroy(store.path)
    fresh = Store(store.path, block_cache=cache)
    fresh.set_identity(identity)
    return fresh


def _start(store: Store, tp: TopicPartition, changelog: Changelog, first_kept: int) -> int:
    """Where to replay from. A changelog that expires by age may begin later than the store ends; a compacted one must not."""
    offset = store.changelog_offset(changelog.table)
    if offset < first_kept and changelog.retention_ms is None:
        raise ContinuityError(
            f"changelog {tp.topic}/{tp.partition} begins at offset {first_kept}, local state ends at {offset}: records of a compacted "
            "changelog were deleted, so the state cannot be made again. Restore the topic, or rebuild the state from the input topics."
        )
    return max(offset, first_kept)


async def _replay(
    store: Store,
    partitions: Mapping[TopicPartition, Changelog],
    starts: Mapping[TopicPartition, int],
    high_watermarks: Mapping[TopicPartition, int],
    kafka: KafkaSettings,
) -> int:
    reader = AIOKafkaConsumer(
        **connection(kafka),
        isolation_level="read_committed",
        auto_offset_reset="none",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 << 20,
    )
    await reader.start()
    try:
        reader.assign(list(partitions))
        while any(stable < high_watermarks[tp] for tp, stable in (await reader.end_offsets(list(partitions))).items()):
            await asyncio.sleep(0.01)  # the broker cannot be asked to tell when a last stable offset moves
        for tp, start in starts.items():
            reader.seek(tp, start)
        return await _read_to_end(reader, store, partitions, starts, high_watermarks)
    finally:
        await reader.stop()


async def _read_to_end(
    reader: AIOKafkaConsumer,
    store: Store,
    partitions: Mapping[TopicPartition, Changelog],
    starts: Mapping[TopicPartition, int],
    high_watermarks: Mapping[TopicPartition, int],
) -> int:
    replayed = 0
    behind = {tp for tp, start in starts.items() if start < high_watermarks[tp]}
    while behind:
        for tp, records in (await reader.getmany(*behind, timeout_ms=100)).items():
            table = partitions[tp].table
            store.write([(table, record.key, record.value) for record in records], {table: records[-1].offset + 1})
            replayed += len(records)
        behind = {tp for tp in behind if await reader.position(tp) < high_watermarks[tp]}
    ends = {changelog.table: high_watermarks[tp] for tp, changelog in partitions.items()}
    store.write([], ends)  # the end may be transaction markers only, which are never handed out
    return replayed
