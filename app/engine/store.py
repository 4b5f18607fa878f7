"""The local state of one partition: a RocksDB that holds what its changelogs hold, up to the offsets it names. A cache, safe to delete.

All tables of a partition share one RocksDB, each under its own key prefix, so that one WriteBatch moves values and changelog offsets
together. RocksDB's own log is off: after a crash the store is some earlier state together with the offsets of that state, and the
changelogs bring it forward from there.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rocksdict import BlockBasedOptions, Cache, MemtableFactory, Options, Rdict, WriteBatch, WriteOptions

from app.errors import BankstreamError

_META = b"m"
_DATA = b"t"
_OFFSET = _META + b"changelog-offset:"
_IDENTITY = _META + b"identity"
_CURRENT = _META + b"current-at"

WRITE_BUFFER_BYTES = 8 << 20
"""Also what a killed process may have to replay of each partition: RocksDB has no log of its own here."""
BULK_BUFFER_BYTES = 32 << 20
STAMP_EVERY_S = 3_600
"""How often a store that is written to notes that it is up to date."""
MAX_LOADED_FILES = 4
"""Unsorted files that a bulk load may leave behind: more slow down every read, and are merged first."""


def _data_prefix(table: str) -> bytes:
    return _DATA + table.encode() + b"\0"


def _damage_mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")


def _after_prefix(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


class StateError(BankstreamError, OSError):
    """RocksDB failed: damaged files, or a disk that is full. Nothing is wrong with the record at hand, nor with the changelogs."""


class ReadOnlyStore(Protocol):
    """Committed state as a unit of work reads it."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        ...

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end in ascending order; `end` None: to the end of the table."""
        ...


class LogSlice(Protocol):
    """Consecutive records of a changelog, in order; to be iterated once."""

    def __iter__(self) -> Iterator[Any]:
        """Each with `key` and `value`."""
        ...

    @property
    def next(self) -> int:
        """The offset behind them, known once they are iterated."""
        ...


class Store:
    """One partition's RocksDB. Not thread safe; RocksDB itself refuses a second process on the same directory."""

    def __init__(self, path: Path, *, block_cache: Cache, bulk: bool = False) -> None:
        """With `bulk` for `load` alone: what is written is sorted when it is flushed, and files are merged by `close`.

        StateError when the store was found damaged while it was in use: RocksDB opens some damaged files without complaint.
        """
        self.path, self.bulk = path, bulk
        if _damage_mark(path).exists():
            raise StateError(f"local state {path} was found damaged while it was in use")
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(block_cache)  # without one, rocksdict takes gigabytes for each store
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
        # named, or rocksdict opens what exists with the options that it had: another memtable, and a cache of its own
        self._db = Rdict(str(path), options, column_families={"default": options})
        self._prefixes: dict[str, bytes] = {}
        self._stamped = 0.0

    @classmethod
    def destroy(cls, path: Path) -> None:
        """Remove a store from disk. The changelogs make it again."""
        shutil.rmtree(path, ignore_errors=True)
        _damage_mark(path).unlink(missing_ok=True)

    @property
    def identity(self) -> bytes | None:
        """What the store was made from (the changelogs' topic ids); None for a new store."""
        return self._get(_IDENTITY)

    def set_identity(self, identity: bytes) -> None:
        """Remember what the new store is made from."""
        batch = WriteBatch(raw_mode=True)
        batch.put(_IDENTITY, identity)
        self._stamp(batch, time.time())
        self._write(batch)

    @property
    def caught_up_at(self) -> float:
        """The latest time, in Unix seconds, at which the store is known to have missed no deletion: it was new, or at the end of its
        changelogs. 0 if it does not say.
        """
        raw = self._get(_CURRENT)
        return int.from_bytes(raw, "big") / 1000 if raw else 0.0

    def set_caught_up(self) -> None:
        """Note that the store is at the end of its changelogs now."""
        batch = WriteBatch(raw_mode=True)
        self._stamp(batch, time.time())
        self._write(batch)

    def changelog_offset(self, table: str) -> int:
        """The first changelog offset of a table that is not in the store yet; 0 for a new store."""
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
        try:
            cursor.status()  # an iterator that meets a damaged block looks like one that has reached the end
        except Exception as error:
            raise self._failed(error) from error

    def write(self, changes: Sequence[tuple[str, bytes, bytes | None]], changelog_offsets: Mapping[str, int]) -> None:
        """Apply (table, key, value or None for gone) and the changelog offsets reached by them, all or nothing.

        For the owner of the partition, who writes all that its changelogs get: the store is at their end after it.
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

    def load(self, table: str, records: LogSlice) -> int:
        """Apply records of a table's changelog and the offset behind them, all or nothing. Answers how many they were."""
        batch = WriteBatch(raw_mode=True)
        put, prefix = batch.put, self._prefix(table)
        for record in records:
            value = record.value
            if value is None:
                batch.delete(prefix + record.key)
            else:
                put(prefix + record.key, value)
        count: int = batch.len()
        put(_OFFSET + table.encode(), records.next.to_bytes(8, "big"))
        self._write(batch)
        return count

    def flush(self) -> None:
        """Put everything on disk: what is written so far will not have to be replayed."""
        try:
            self._db.flush()
        except Exception as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flush and close, so that the next opening is warm."""
        try:
            self._db.flush()
            if self.bulk and (self._db.property_int_value("rocksdb.num-files-at-level0") or 0) > MAX_LOADED_FILES:
                self._db.compact_range(None, None)
            self._db.close()
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
        """What to raise for an error of RocksDB, which has one type for all of them. Damage is noted beside the store for its next life."""
        if not str(error).startswith("Corruption"):
            return StateError(f"local state {self.path} cannot be used ({error}). Is its disk full?")
        _damage_mark(self.path).touch()
        return StateError(
            f"local state {self.path} is damaged ({error}): the next start makes it again from the changelogs"
        )

    def _prefix(self, table: str) -> bytes:
        prefix = self._prefixes.get(table)
        if prefix is None:
            prefix = self._prefixes[table] = _data_prefix(table)
        return prefix
