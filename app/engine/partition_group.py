"""Processes the co-partitioned topics of a partition group, with shared state and one Kafka transaction at a time for each partition."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings
from app.engine import metrics, positions
from app.engine.batch_unit_of_work import BatchUnitOfWork, Pair
from app.engine.committed_state import CommittedState
from app.engine.continuity import repartitioned
from app.engine.dead_letters import DeadLetter
from app.engine.derivation import Derive, run_derivation
from app.engine.kafka import KafkaLog
from app.engine.lru import LruDict
from app.engine.offset_barrier import OffsetBarriers, PendingBarriers
from app.engine.positions import Position
from app.engine.restore import Changelog, restore
from app.engine.store import StateError, Store, UnreadableEntryError
from app.engine.table import Table
from app.engine.transactional_producer import TransactionalProducer
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import BankstreamError, ContinuityError, PoisonRecordError, discreet

logger = logging.getLogger(__name__)

RecordHandler = Callable[[InputRecord, UnitOfWork], None]
Punctuate = Callable[[UnitOfWork], None]

TopicRecords = tuple[str, Sequence[InputRecord]]
"""Records of one topic, in offset order."""

POSITIONS = "positions"
"""The table that every group has: the position in each input topic. Positions are committed in the same transaction as the effects."""


@dataclass(frozen=True, slots=True)
class PartitionGroup:
    """Co-partitioned topics and the tables that their handlers share.

    `name` is part of the transactional id and of the changelogs' names: changing it abandons the state.
    `punctuate` is called about every `punctuate_interval_ms` for each open partition, for time-driven work.
    """

    app_id: str
    name: str
    topics: tuple[str, ...]
    tables: tuple[Table[Any, Any], ...]
    partitions: int
    partitions_of: Callable[[str], int]
    dead_letter_topic: str
    punctuate: Punctuate | None = None
    pending_barriers: PendingBarriers | None = None
    """The offset barriers in the state of the group. They are checked every `punctuate_interval_ms`, like `punctuate`."""
    derive: Derive | None = None
    """Moves restored records into derived tables. It runs each time that a partition is opened, after its restore."""

    def changelog(self, table: str) -> str:
        """Returns the changelog topic of a table of this group."""
        return f"{self.app_id}-{self.name}-{table}-changelog"

    def transactional_id(self, number: int) -> str:
        """Returns the transactional id of a partition."""
        return f"{self.app_id}.{self.name}.{number}"

    @property
    def changelogs(self) -> tuple[Changelog, ...]:
        """All changelogs; that of the positions is first."""
        return (
            Changelog(POSITIONS, self.changelog(POSITIONS), retention_ms=None),
            *(
                Changelog(table.name, self.changelog(table.name), table.retention_ms, table.is_stored)
                for table in self.tables
                if table.is_logged
            ),
        )


class ProcessingError(BankstreamError):
    """The application's own code failed on a record. It is not a poison record: a corrected version would process it."""


class GroupPartition:
    """State, position and transactions of one partition of a group, on the worker that owns it.

    Call `open` before use. `process` and `punctuate` are serialised here. After any exception the object must not be used again: this
    process or the next must open the partition again.
    """

    def __init__(
        self,
        group: PartitionGroup,
        number: int,
        *,
        kafka: KafkaSettings,
        engine: EngineSettings,
        log: KafkaLog,
        state: Path,
        cache: Cache,
    ) -> None:
        self.group, self.number = group, number
        self._kafka, self._engine, self._log = kafka, engine, log
        self._path = state / group.app_id / group.name / str(number)
        self._cache = cache
        self._lock = asyncio.Lock()
        self._memory: LruDict[Any, Any] = LruDict(engine.memory_entries)
        self._tables = frozenset(table.name for table in group.tables)
        self._logged = {changelog.table: (changelog.topic, number) for changelog in group.changelogs}
        self._stored = frozenset({POSITIONS, *(table.name for table in group.tables if table.is_stored)})
        self._positions: dict[str, Position] = {}
        self.topic_ids: dict[str, uuid.UUID] = {}
        """Kafka's topic ids of the inputs, as recorded with the positions, and of the changelogs."""
        self._unsaid: dict[bytes, bytes] = {}
        """Entries of the positions table with the changelogs' ids that are not committed yet."""
        self._punctuated = 0.0
        self._transactions = TransactionalProducer(group.transactional_id(number), kafka, engine)
        self._barriers = OffsetBarriers(number, kafka, log)
        self._store: Store | None = None

    async def open(self) -> None:
        """Fences the previous owner, restores the state up to the end of the changelogs, and reads the positions."""
        started = time.monotonic()
        await self._transactions.start()
        changelogs = {changelog.table: changelog.topic for changelog in self.group.changelogs}
        infos = await self._log.require((*self.group.topics, *changelogs.values()))
        for changelog in changelogs.values():
            if infos[changelog].partitions != self.group.partitions:
                raise ContinuityError(repartitioned(changelog, infos[changelog].partitions, self.group.partitions))
        ids = {name: info.id for name, info in infos.items()}
        self._store, restored = await restore(
            self._path,
            self.group.changelogs,
            self.number,
            ids=ids,
            kafka=self._kafka,
            engine=self._engine,
            log=self._log,
            cache=self._cache,
        )
        if self.group.derive is not None:
            await run_derivation(f"{self.group.name}/{self.number}", self._store, self.group.derive)
        self._positions = {
            topic: positions.decode(raw)
            for topic in self.group.topics
            if (raw := self._store.get(POSITIONS, topic.encode())) is not None
        }
        self._check_changelogs(self._store, changelogs, ids)
        self.topic_ids = ids | {topic: position.topic_id for topic, position in self._positions.items()}
        metrics.OPEN_SECONDS.labels(self.group.name).observe(time.monotonic() - started)
        metrics.RESTORED_RECORDS.labels(self.group.name).inc(restored)
        logger.info(
            "opened %s/%d: %d changelog records in %.2f s, positions %s",
            self.group.name, self.number, restored, time.monotonic() - started,
            {topic: position.offset for topic, position in self._positions.items()},
        )  # fmt: skip

    def position(self, topic: str) -> int | None:
        """Returns the next offset of an input topic to process; None if nothing was processed yet."""
        position = self._positions.get(topic)
        return None if position is None else position.offset

    def committed(self) -> CommittedState | None:
        """Returns the state as of the last committed transaction, for use until the next `await`; None while the partition is not open."""
        if self._store is None:
            return None
        positions = {topic: position.offset for topic, position in self._positions.items()}
        return CommittedState(self._store, self._tables, positions)

    async def process(self, batches: Sequence[TopicRecords], handlers: Mapping[str, RecordHandler]) -> int:
        """Applies batches in order, each with the handler of its topic, and commits all of them with their effects in one transaction.

        Skips records that were processed before. Returns the number of new ones.
        """
        async with self._lock:
            started = time.monotonic()
            unit, reached = self._unit(), dict[str, int]()
            fresh: list[TopicRecords] = []
            for topic, records in batches:
                position = reached.get(topic, self.position(topic) or 0)
                if new := [record for record in records if record.offset >= position]:
                    try:
                        apply_all(self.group.name, new, handlers[topic], unit)
                    except UnreadableEntryError:
                        assert self._store is not None
                        self._store.mark_damaged()
                        raise
                    reached[topic] = new[-1].offset + 1
                    fresh.append((topic, new))
            if not fresh:
                return 0
            await self._commit(unit, reached)
            self._measure(fresh, time.monotonic() - started)
            return sum(len(records) for _, records in fresh)

    async def punctuate(self) -> None:
        """Calls the group's `punctuate` and runs the actions of reached barriers, at most every `punctuate_interval_ms`."""
        now = time.monotonic()
        if now - self._punctuated < self._engine.punctuate_interval_ms / 1000:
            return
        self._punctuated = now
        if self.group.punctuate is not None:
            async with self._lock:
                unit = self._unit()
                self.group.punctuate(unit)
                if not unit.empty:
                    await self._commit(unit, {})
        if self.group.pending_barriers is not None:
            await self._pass_barriers(self.group.pending_barriers)

    async def _pass_barriers(self, pending_barriers: PendingBarriers) -> None:
        """Queries Kafka without the lock, so that processing continues. Does nothing more if the partition is closed meanwhile."""
        async with self._lock:
            pending = pending_barriers(self._unit()) if self._store is not None else {}
        for barrier in await self._barriers.reached(pending, self.position):
            async with self._lock:
                if self._store is None:
                    return
                unit = self._unit()
                act = pending_barriers(unit).get(barrier)
                if act is not None:
                    act(unit)
                    await self._commit(unit, {})

    async def close(self) -> None:
        """Waits for the running transaction, then closes the producer and the store. Closing twice is allowed."""
        async with self._lock:
            await self._transactions.stop()
            if self._store is not None:
                self._store.close()
                self._store = None

    def _unit(self) -> BatchUnitOfWork:
        if self._store is None:
            raise BankstreamError(f"partition {self.group.name}/{self.number} is not open")
        return BatchUnitOfWork(
            partition=self.number,
            partitions=self.group.partitions,
            tables=self._tables,
            store=self._store,
            cache=self._memory,
            partitions_of=self.group.partitions_of,
            dead_letter_topic=self.group.dead_letter_topic,
            now_us=time.time_ns() // 1000,
        )

    def _measure(self, batches: Sequence[TopicRecords], seconds: float) -> None:
        metrics.TRANSACTION_SECONDS.labels(self.group.name).observe(seconds)
        metrics.BATCH_RECORDS.labels(self.group.name).observe(sum(len(records) for _, records in batches))
        for topic, records in batches:
            metrics.RECORDS.labels(topic).inc(len(records))
            metrics.RECORD_AGE_SECONDS.labels(topic).observe(max(0.0, time.time() - records[-1].timestamp / 1000))

    def _check_changelogs(self, store: Store, changelogs: Mapping[str, str], ids: Mapping[str, uuid.UUID]) -> None:
        """Raises ContinuityError if a changelog is not the topic that the state was made from: state would be missing after a restore."""
        said = {table: store.get(POSITIONS, positions.CHANGELOG + table.encode()) for table in changelogs}
        if not any(said.values()) and (self._positions or any(next(store.scan(table), None) for table in self._tables)):
            raise ContinuityError(
                f"changelog {changelogs[POSITIONS]}/{self.number} has no record of the topic ids of {self.group.name}'s changelogs, "
                f"although the group has state: the topic was deleted and recreated. {self._remedy}"
            )
        for table, topic in changelogs.items():
            raw = said[table]
            if raw is None:
                self._unsaid[positions.CHANGELOG + table.encode()] = ids[topic].bytes
            elif raw != ids[topic].bytes:
                raise ContinuityError(
                    f"changelog {topic}/{self.number} was recreated: its id was {uuid.UUID(bytes=raw)}, now it is {ids[topic]}. The "
                    f"state of table {table} is gone; {self._processed}. {self._remedy}"
                )

    @property
    def _processed(self) -> str:
        ends = (f"{topic} through offset {position.offset - 1}" for topic, position in self._positions.items())
        return f"the group had processed {', '.join(ends) or 'nothing'}"

    @property
    def _remedy(self) -> str:
        return (
            f"Restore the topic from a backup of Kafka, or rebuild the state of {self.group.name} from its inputs: docs/DOCTOR.md, "
            "changelog-recreated, says how."
        )

    async def _commit(self, unit: BatchUnitOfWork, reached_inputs: Mapping[str, int]) -> None:
        """Commits outputs, changelog records and positions in one transaction, then writes the store, which so is never ahead of Kafka."""
        assert self._store is not None
        moved = {topic: Position(offset, self.topic_ids[topic]) for topic, offset in reached_inputs.items()}
        changes = unit.changes()
        changes += [(POSITIONS, topic.encode(), positions.encode(position)) for topic, position in moved.items()]
        changes += [(POSITIONS, key, value) for key, value in self._unsaid.items()]
        logged: dict[tuple[str, int], list[Pair]] = {}
        for table, key, value in changes:
            target = self._logged.get(table)
            if target is not None:
                logged.setdefault(target, []).append((key, value))
        written = await self._transactions.commit({**unit.records, **logged})
        reached = {table: written[target] for table, target in self._logged.items() if target in written}
        self._store.write([change for change in changes if change[0] in self._stored], reached)
        self._positions.update(moved)
        self._unsaid = {}
        for letter in unit.dead_letters:
            _announce(letter)


def apply_all(group: str, records: Iterable[InputRecord], apply: RecordHandler, unit: BatchUnitOfWork) -> None:
    """Applies records in order. The only effect of a poison record is its dead letter. Raises ProcessingError for any other exception but
    StateError."""
    for record in records:
        unit.mark()
        try:
            apply(record, unit)
        except PoisonRecordError as error:
            unit.undo()
            unit.dead_letter(record, error)
        except StateError:
            raise
        except Exception as error:
            raise ProcessingError(
                f"processing {record.topic}/{record.partition} offset {record.offset} in {group} failed: {discreet(error)}. "
                "This is a defect, not bad input: the record is not skipped; correct the code and start the worker again."
            ) from error


def _announce(letter: DeadLetter) -> None:
    metrics.DEAD_LETTERS.labels(letter.reason, letter.stage).inc()
    logger.warning(
        "dead letter: %s/%d offset %d refused at %s (%s)",
        letter.topic, letter.partition, letter.offset, letter.stage, letter.reason,
    )  # fmt: skip
