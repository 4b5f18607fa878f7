"""Restores a partition's store up to the end of its changelogs: after a crash, a rebalance or the loss of a disk."""

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings
from app.engine import metrics
from app.engine.changelog import ChangelogReader
from app.engine.derivation import TOMBSTONE
from app.engine.kafka import KafkaLog
from app.engine.store import StateError, Store
from app.engine.topic_admin import TOMBSTONES_MS
from app.errors import BankstreamError, ContinuityError

logger = logging.getLogger(__name__)

MAX_AGE_S = TOMBSTONES_MS / 2000
"""The age limit of a store. Tombstones that an older store has not read may be compacted away, and deleted keys would stay in it."""
DERIVED = b"derived tables 1"
"""Part of the identity of a store that has tables which are derived from its changelogs (`app.engine.derivation`)."""
BULK_OFFSETS = 50_000
"""From this many records on, a bulk load saves more time than opening the store two more times costs."""


@dataclass(frozen=True, slots=True)
class Changelog:
    """A table's changelog topic. `retention_ms` None: the topic is compacted, so its records do not expire. `is_stored` as in `Table`."""

    table: str
    topic: str
    retention_ms: int | None
    is_stored: bool = True


async def restore(
    path: Path,
    changelogs: Sequence[Changelog],
    number: int,
    *,
    ids: Mapping[str, uuid.UUID],
    kafka: KafkaSettings,
    engine: EngineSettings,
    log: KafkaLog,
    cache: Cache,
) -> tuple[Store, int]:
    """Opens the store at `path` and replays the changelog records that it lacks. Returns the store and the number of records replayed.
    `ids` are Kafka's topic ids of the changelogs.

    The caller must have fenced the previous owner. The last transaction of that owner may not have its markers yet, so this waits until
    the last stable offset reaches the high watermark. A store is discarded and recreated if it was made from other changelogs (their
    topic ids differ), if RocksDB finds it damaged, or if it is so old that tombstones it needs may be compacted away.

    Raises ContinuityError if a changelog ends before an offset that the store has already read.
    """
    identity = former = hashlib.sha256("".join(str(ids[c.topic]) for c in changelogs).encode()).digest()
    if not all(changelog.is_stored for changelog in changelogs):
        identity = hashlib.sha256(former + DERIVED).digest()
    partitions = {TopicPartition(changelog.topic, number): changelog for changelog in changelogs}
    high_watermarks = await log.end(partitions)
    first_kept = await log.beginning(partitions)
    store = _open_store(path, identity, cache, former)
    for partition, changelog in partitions.items():
        if (reached := store.changelog_offset(changelog.table)) > (end := high_watermarks[partition]):
            store.close()
            raise ContinuityError(
                f"changelog {changelog.topic}/{number} ends with offset {end - 1}, but local state {path} has it through {reached - 1}: "
                f"Kafka has lost offsets {end} to {reached - 1}, which had been committed (an unclean election of a leader, or a restored "
                "backup). Restore them; or remove that directory to continue with Kafka's records: its positions and state are equally old."
            )
    starts = {tp: _start(store, tp, changelog, first_kept[tp]) for tp, changelog in partitions.items()}
    behind = {tp: start for tp, start in starts.items() if start < high_watermarks[tp]}
    if sum(high_watermarks[tp] - start for tp, start in behind.items()) >= BULK_OFFSETS:
        store.close()
        store = Store(path, block_cache=cache, bulk=True)
    try:
        async with asyncio.timeout(engine.restore_timeout_s):
            replayed = await _replay(store, partitions, behind, high_watermarks, kafka, log)
            store.set_caught_up()
            return await _settle(store, cache), replayed
    except TimeoutError:
        store.close()
        raise BankstreamError(
            f"restoring {path} took longer than {engine.restore_timeout_s} s (BANKSTREAM_ENGINE_RESTORE_TIMEOUT_S); "
            "an open transaction of another process may hold the changelog's last stable offset"
        ) from None


async def _settle(store: Store, cache: Cache) -> Store:
    """Flushes the replayed records, so that they are not replayed again after a kill. After a bulk load, reopens the store for use."""
    if not store.bulk:
        await asyncio.to_thread(store.flush)
        return store
    await asyncio.to_thread(store.close)
    return Store(store.path, block_cache=cache)


def _open_store(path: Path, identity: bytes, cache: Cache, former: bytes = b"") -> Store:
    """Opens the store, or makes a new one in its place. `former` is the identity of a store without derived tables, whose entries are the
    records of the changelogs: it is taken over. An earlier version of the program does not know the new identity, and rebuilds."""
    try:
        store = Store(path, block_cache=cache)
    except Exception as error:
        if "/LOCK: " in str(error):  # with the slash and colon, because "block checksum mismatch" contains "lock" too
            raise StateError(
                f"local state {path} is in use by another process. Give each worker its own BANKSTREAM_ENGINE_STATE_DIR."
            ) from error
        if "No space left on device" in str(error):
            raise StateError(f"local state {path} cannot be opened: {error}. Make room on its disk.") from error
        logger.warning("local state %s cannot be opened (%s): rebuilt from the changelogs", path, error)
        return _remade(path, identity, cache)
    known = store.identity
    if known is None:
        metrics.RESTORES.labels("cold").inc()
        store.set_identity(identity)
        return store
    if known not in (identity, former):
        logger.warning("local state %s belongs to changelogs that no longer exist: rebuilt", path)
    elif (age_s := time.time() - store.caught_up_at) > MAX_AGE_S:
        logger.warning("local state %s is %.0f s old, and may have missed deletions: rebuilt", path, age_s)
    else:
        metrics.RESTORES.labels("warm").inc()
        if known != identity:
            store.set_identity(identity, is_new=False)
        return store
    store.close()
    return _remade(path, identity, cache)


def _remade(path: Path, identity: bytes, cache: Cache) -> Store:
    """Deletes an unusable store and returns an empty one in its place."""
    metrics.RESTORES.labels("discarded").inc()
    Store.destroy(path)
    store = Store(path, block_cache=cache)
    store.set_identity(identity)
    return store


def _start(store: Store, tp: TopicPartition, changelog: Changelog, first_kept: int) -> int:
    """Returns the offset to replay from. A changelog that expires by age may begin after the store's end; a compacted one must not."""
    offset = store.changelog_offset(changelog.table)
    if offset < first_kept and changelog.retention_ms is None:
        raise ContinuityError(
            f"changelog {tp.topic}/{tp.partition} begins at offset {first_kept}, local state ends at {offset}: records of a compacted "
            "changelog were deleted, so the state cannot be rebuilt from it. Restore the topic, or rebuild the state from the input topics."
        )
    return max(offset, first_kept)


async def _replay(
    store: Store,
    partitions: Mapping[TopicPartition, Changelog],
    behind: dict[TopicPartition, int],
    high_watermarks: Mapping[TopicPartition, int],
    kafka: KafkaSettings,
    log: KafkaLog,
) -> int:
    """Reads from the offsets in `behind`, by partition, up to the high watermarks. Returns the number of records.

    Kafka returns records up to the last stable offset only, so this waits while a transaction of the previous owner has no marker.
    """
    replayed = 0
    async with ChangelogReader(kafka) as reader:
        while behind:
            try:
                fetched = await reader.fetch(behind)
            except OffsetOutOfRangeError as error:
                await _go_on_behind(error, store, partitions, behind, log)
                continue
            for records in fetched:
                changelog = partitions[records.tp]
                replayed += store.load(changelog.table, records, None if changelog.is_stored else TOMBSTONE)
                behind[records.tp] = records.next
            behind = {tp: offset for tp, offset in behind.items() if offset < high_watermarks[tp]}
    return replayed


async def _go_on_behind(
    error: OffsetOutOfRangeError,
    store: Store,
    partitions: Mapping[TopicPartition, Changelog],
    behind: dict[TopicPartition, int],
    log: KafkaLog,
) -> None:
    """Continues after records that expired before they were read, which a changelog that expires by age allows. Raises like `_start`."""
    for tp in error.args[0]:
        start = _start(store, tp, partitions[tp], (await log.beginning([tp]))[tp])
        if start <= behind[tp]:
            raise error
        behind[tp] = start
