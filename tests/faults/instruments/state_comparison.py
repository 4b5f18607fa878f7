"""Compares a worker's local state with its changelogs, entry by entry, for every partition that is restored to the end."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from aiokafka import TopicPartition
from rocksdict import Cache

from app.config.settings import KafkaSettings
from app.engine.partition_group import PartitionGroup
from app.engine.store import StateError, Store
from app.native.history import without_rules
from tables.encoding import decode_number_key
from tables.velocity_events import EVENTS
from tables.velocity_histories import CUSTOMER_BYTES, HISTORIES, read_history
from tests.faults.logs import Reader, beginning

MAX_DIFFERENCES: Final = 5
CACHE_BYTES: Final = 8 << 20


async def compare_state(state: Path, groups: Sequence[PartitionGroup], kafka: KafkaSettings) -> tuple[int, list[str]]:
    """Returns the number of compared entries and the differences. The worker must be stopped; `state` is its directory.

    A store in which this reading finds damage for the first time is not compared and is marked as damaged. The worker's next process
    restores it, so compare again then. A partition whose store is behind the end of its changelogs belongs to another worker now, and is
    skipped.
    """
    compared, differences = 0, list[str]()
    for group in groups:
        for number in range(group.partitions):
            path = state / group.app_id / group.name / str(number)
            if not (path / "CURRENT").exists():
                continue
            try:
                store = Store(path, block_cache=Cache(CACHE_BYTES))
            except Exception as error:
                if isinstance(error, StateError) or "Corruption" in str(error):
                    continue  # another worker owns the partition: this one would have restored the store on opening it
                raise
            try:
                count, found = await _compare(store, group, number, kafka)
                compared += count
                differences += found
            except StateError:
                pass  # the store has marked itself
            finally:
                store.close()
    return compared, differences


async def _compare(store: Store, group: PartitionGroup, number: int, kafka: KafkaSettings) -> tuple[int, list[str]]:
    logs = {TopicPartition(log.topic, number): log for log in group.changelogs}
    wanted: dict[str, dict[bytes, bytes]] = {log.table: {} for log in group.changelogs}
    reached = dict.fromkeys(wanted, 0)
    async with Reader(kafka, beginning(logs)) as reader:
        for tp, log in logs.items():
            async for page in reader.pages(tp):
                reached[log.table] = page[-1].offset + 1
                for record in page:
                    if record.value is None:
                        wanted[log.table].pop(record.key, None)
                    else:
                        wanted[log.table][record.key] = record.value
    if any(store.changelog_offset(table) < end for table, end in reached.items()):
        return 0, []
    compared, differences = 0, list[str]()
    for log in group.changelogs:
        expected, actual = wanted[log.table], dict(_entries(store, log.table))
        compared += len(expected)
        wrong = [key for key, value in actual.items() if expected.get(key) != value]
        if log.retention_ms is None:  # a worker may have removed expired entries that the changelog still has
            wrong += [key for key in expected if key not in actual]
        if wrong:
            differences.append(
                f"{group.name}/{number} table {log.table}: {len(wrong)} of {len(expected)} entries are not what the log says, such as "
                f"{wrong[:MAX_DIFFERENCES]}"
            )
    return compared, differences


def _entries(store: Store, table: str) -> Iterator[tuple[bytes, bytes]]:
    """A table's entries as its changelog has them."""
    if table != EVENTS.name:
        yield from store.scan(table)
        return
    for prefix, entries in groupby(store.scan(HISTORIES.name), lambda entry: entry[0][:CUSTOMER_BYTES]):
        (customer_id,) = decode_number_key(prefix)
        for event in read_history(entries, without_rules()):
            key = EVENTS.encode_key((customer_id, *event.key))
            yield key, EVENTS.encode(event.facts)
