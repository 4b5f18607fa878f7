"""Stores the local state of one partition in RocksDB, with the changelog offsets up to which it is complete. A cache, safe to delete.

All tables of a partition share one RocksDB, each under its own key prefix, so that one WriteBatch changes values and changelog offsets
together. RocksDB's write-ahead log is off: after a crash the store has some earlier state and the offsets of that state, and a restore
replays the changelogs from there.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rocksdict import BlockBasedOptions, Cache, MemtableFactory, Options, Rdict, RdictIter, WriteBatch, WriteOptions

from app.errors import BankstreamError

_META = b"m"
_DATA = b"t"
_OFFSET = _META + b"changelog-offset:"
_IDENTITY = _META + b"identity"
_CURRENT = _META + b"current-at"

WRITE_BUFFER_BYTES = 8 << 20
"""This is also how much a killed process may have to replay of each partition, because RocksDB's write-ahead log is off."""
BULK_BUFFER_BYTES = 32 << 20
STAMP_EVERY_S = 3_600
"""How often `write` records that the store is up to date."""
MAX_LOADED_FILES = 4
"""The number of level-0 files that a bulk load may leave. More slow down every read, so they are merged first."""


def _data_prefix(table: str) -> bytes:
    return _DATA + table.encode() + b"\0"


def _damage_mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")


def _after_prefix(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


class StateError(BankstreamError, OSError):
    """RocksDB failed because files are damaged or the disk is full. The current record and the changelogs are not the cause."""


class UnreadableEntryError(StateError):
    """An entry of a table cannot be decoded. The partition that reads it marks its store as damaged."""


class ReadOnlyStore(Protocol):
    """The committed state that a unit of work reads."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        ...

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end in ascending order; `end` None: to the end of the table."""
        ...

    def scan_back(self, table: str, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end in descending order."""
        ...


class LogSlice(Protocol):
    """Consecutive records of a changelog in offset order. It can be iterated once."""

    def __iter__(self) -> Iterator[Any]:
        """Yields the records, each with `key` and `value`."""
        ...

    @property
    def next(self) -> int:
        """The offset after the last record, known once all are iterated."""
        ...


class Store:
    """One partition's RocksDB. Not thread safe; RocksDB itself refuses a second process on the same directory."""

    def __init__(self, path: Path, *, block_cache: Cache, bulk: bool = False) -> None:
        """Use `bulk` for `load` only: entries are sorted when they are flushed, and `close` merges the files.

        Raises StateError if the store was found damaged while it was in use, because RocksDB opens some damaged files without an error.
        """
        self.path, self.bulk = path, bulk
        if _damage_mark(path).exists():
            raise StateError(f"local state {path} was found damaged while it was in use")
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(block_cache)  # without a shared cache, rocksdict takes gigabytes for each store
        blocks.set_bloom_filter(10, False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(BULK_BUFFER_BYTES if bulk else WRITE_BUFFER_BYTES)
        if bulk:
            options.set_memtable_factory(MemtableFactory.vector())
            options.set_allow_concurrent_memtable_write(False)
            options.set_disable_auto_compactions(True)
        options.set_max_open_files(256)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        self._writes = WriteOptions()
        self._writes.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, whatever the stub says
        # the column family is named because otherwise rocksdict opens an existing store with its old options: other memtable, own cache
        self._db = Rdict(str(path), options, column_families={"default": options})
        self._prefixes: dict[str, bytes] = {}
        self._stamped = 0.0

    @classmethod
    def destroy(cls, path: Path) -> None:
        """Removes a store from disk. It can be restored from the changelogs."""
        shutil.rmtree(path, ignore_errors=True)
        _damage_mark(path).unlink(missing_ok=True)

    @property
    def identity(self) -> bytes | None:
        """Identifies the changelogs that the store was made from (by their topic ids); None for a new store."""
        return self._get(_IDENTITY)

    def set_identity(self, identity: bytes, *, is_new: bool = True) -> None:
        """Records the identity of the changelogs. Set `is_new` False for a store that has entries already."""
        batch = WriteBatch(raw_mode=True)
        batch.put(_IDENTITY, identity)
        if is_new:
            self._stamp(batch, time.time())
        self._write(batch)

    def mark_damaged(self) -> None:
        """Makes the next start discard the store and rebuild it from the changelogs."""
        _damage_mark(self.path).touch()

    @property
    def caught_up_at(self) -> float:
        """The latest time, in Unix seconds, at which the store is known to have missed no deletion, because it was new or at the end of its
        changelogs. 0 if none is recorded.
        """
        raw = self._get(_CURRENT)
        return int.from_bytes(raw, "big") / 1000 if raw else 0.0

    def set_caught_up(self) -> None:
        """Records that the store is at the end of its changelogs now."""
        batch = WriteBatch(raw_mode=True)
        self._stamp(batch, time.time())
        self._write(batch)

    def changelog_offset(self, table: str) -> int:
        """Returns the first changelog offset of a table that is not in the store yet; 0 for a new store."""
        raw = self._get(_OFFSET + table.encode())
        return int.from_bytes(raw, "big") if raw else 0

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self._get(self._prefix(table) + key)

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end in ascending order; `end` None: to the end of the table."""
        prefix = self._prefix(table)
        stop = _after_prefix(prefix) if end is None else prefix + end
        cut = len(prefix)
        cursor = self._db.iter()
        cursor.seek(prefix + start)
        while cursor.valid():
            key: bytes = cursor.key()
            if key >= stop:
                return
            yield key[cut:], cursor.value()
            cursor.next()
        self._check_end(cursor)

    def scan_back(self, table: str, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end in descending order."""
        prefix = self._prefix(table)
        first, behind, cut = prefix + start, prefix + end, len(prefix)
        cursor = self._db.iter()
        cursor.seek_for_prev(behind)
        if cursor.valid() and cursor.key() == behind:
            cursor.prev()
        while cursor.valid():
            key: bytes = cursor.key()
            if key < first:
                return
            yield key[cut:], cursor.value()
            cursor.prev()
        self._check_end(cursor)

    def write(self, changes: Sequence[tuple[str, bytes, bytes | None]], changelog_offsets: Mapping[str, int]) -> None:
        """Applies changes (table, key, and value or None to delete) and the changelog offsets after them atomically.

        For the owner of the partition, which writes all records of its changelogs: after this call the store is at their end.
        """
        batch = WriteBatch(raw_mode=True)
        for table, key, value in changes:
            if value is None:
                batch.delete(self._prefix(table) + key)
            else:
                batch.put(self._prefix(table) + key, value)
        for table, offset in changelog_offsets.items():
            batch.put(_OFFSET + table.encode(), offset.to_bytes(8, "big"))
        if (now := time.time()) - self._stamped > STAMP_EVERY_S:
            self._stamp(batch, now)
        self._write(batch)

    def load(self, table: str, records: LogSlice, tombstone: bytes | None = None) -> int:
        """Applies records of a table's changelog and the offset after them atomically. Returns the number of records.

        A record without a value deletes its key; with a `tombstone`, it sets the key to that instead.
        """
        batch = WriteBatch(raw_mode=True)
        put, prefix = batch.put, self._prefix(table)
        for record in records:
            value = tombstone if record.value is None else record.value
            if value is None:
                batch.delete(prefix + record.key)
            else:
                put(prefix + record.key, value)
        count: int = batch.len()
        put(_OFFSET + table.encode(), records.next.to_bytes(8, "big"))
        self._write(batch)
        return count

    def flush(self) -> None:
        """Writes everything to disk, so that a restart need not replay it."""
        try:
            self._db.flush()
        except Exception as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flushes and closes the store, so that the next start has nothing to replay."""
        try:
            self._db.flush()
            if self.bulk and (self._db.property_int_value("rocksdb.num-files-at-level0") or 0) > MAX_LOADED_FILES:
                self._db.compact_range(None, None)
            self._db.close()
        except Exception as error:
            raise self._failed(error) from error

    def _check_end(self, cursor: RdictIter) -> None:
        """Raises StateError if an iterator ended at a damaged block. It ends there as at the end of the data; only its status differs."""
        try:
            cursor.status()
        except Exception as error:
            raise self._failed(error) from error

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._failed(error) from error
        return value

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch, self._writes)
        except Exception as error:
            raise self._failed(error) from error

    def _stamp(self, batch: WriteBatch, now: float) -> None:
        batch.put(_CURRENT, int(now * 1000).to_bytes(8, "big"))
        self._stamped = now

    def _failed(self, error: Exception) -> StateError:
        """Returns the StateError for an error of RocksDB, which has one type for all. Marks a damaged store: the next start discards it."""
        if not str(error).startswith("Corruption"):
            return StateError(f"local state {self.path} cannot be used ({error}). Is its disk full?")
        self.mark_damaged()
        return StateError(
            f"local state {self.path} is damaged ({error}): the next start rebuilds it from the changelogs"
        )

    def _prefix(self, table: str) -> bytes:
        prefix = self._prefixes.get(table)
        if prefix is None:
            prefix = self._prefixes[table] = _data_prefix(table)
        return prefix
