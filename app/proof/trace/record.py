"""Checks the four places of one record: its landing row, its line in an object of the lake, the ledger, and Kafka."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import ContinuityError
from app.proof.trace import values
from app.proof.trace.lake import ArchivedRecord, LakeReader, agrees
from app.proof.trace.log import KafkaReader
from app.proof.trace.record_position import RecordPosition
from app.proof.trace.report import Check, Step, differs, holds, judged, unreachable
from app.proof.trace.tables import WarehouseTables
from sinks.base import ChainKey, ObjectStore, SinkError
from sinks.chain_verification import verify_chain


@dataclass(frozen=True, slots=True)
class Proven:
    """The checks of a record: a step for each place, and the line that its landing row was loaded from."""

    steps: tuple[Step, ...]
    found: ArchivedRecord | None = None

    @property
    def value(self) -> bytes | None:
        """The record's value in the lake."""
        return None if self.found is None else self.found.value


class Records:
    """Checks records, each once."""

    def __init__(
        self, tables: WarehouseTables | SinkError, landing: Mapping[str, str], lake: LakeReader, log: KafkaReader
    ) -> None:
        """`landing`: the landing table of each topic."""
        self._tables, self._landing, self._lake, self._log = tables, landing, lake, log
        self._proven: dict[RecordPosition, Proven] = {}

    async def prove(self, position: RecordPosition) -> Proven:
        """Checks a record in every place."""
        if position not in self._proven:
            self._proven[position] = await self._prove(position)
        return self._proven[position]

    def chains(self) -> list[ChainKey]:
        """Returns every chain that contains a checked record."""
        return sorted({it.found.chain for it in self._proven.values() if it.found is not None})

    async def _prove(self, position: RecordPosition) -> Proven:
        archived, problem = await self._archived(position)
        rows, landing = await self._landed(position, archived)
        found = next((one for one in archived if one.raw and _is_any(one.raw, rows)), archived[0] if archived else None)
        name = f"{position.topic}/{position.partition}" if found is None else found.object.object
        in_lake = [problem] if problem else [differs("no object of the lake has this offset")] if found is None else []
        if found is not None:
            in_lake += [agrees(found)] if found.line is not None else []
            in_lake += found.checks
        kafka = await self._log.check(position, found)
        return Proven(
            (
                Step("landing row", f"BRONZE.{self._landing[position.topic]}", tuple(landing)),
                Step("object", name, tuple(in_lake)),
                Step("ledger", "BRONZE.LAKE_LEDGER", tuple(await self._ledger(position, found))),
                Step("Kafka", f"{position.topic}/{position.partition} offset {position.offset}", (kafka,)),
            ),
            found,
        )

    async def _archived(self, position: RecordPosition) -> tuple[list[ArchivedRecord], Check | None]:
        try:
            found = [await self._lake.find(key, position.offset) for key in await self._lake.chains(position)]
        except SinkError as error:
            return [], unreachable(str(error))
        return [one for one in found if one is not None], None

    async def _landed(self, position: RecordPosition, archived: list[ArchivedRecord]) -> tuple[list[str], list[Check]]:
        try:
            rows = await asyncio.to_thread(_session(self._tables).landed, position)
        except SinkError as error:
            return [], [unreachable(str(error))]
        if not rows:
            return [], [differs("no landing row has this position")]
        lines = [one.raw for one in archived if one.raw is not None]
        checks = []
        if lines and len(rows) != len(lines):
            checks.append(differs(f"{len(rows)} landing rows have this position, {len(lines)} lines of the lake do"))
        for row in rows if lines else ():
            closest = min((values.differing_paths(values.parsed(row), values.parsed(line)) for line in lines), key=len)
            checks.append(
                judged(
                    not closest,
                    "it equals its line in the lake",
                    f"it differs from its line in {', '.join(closest)}",
                )
            )
        return rows, checks

    async def _ledger(self, position: RecordPosition, found: ArchivedRecord | None) -> list[Check]:
        try:
            tables = _session(self._tables)
            ledger = await asyncio.to_thread(tables.ledger, position.topic, position.partition)
            landed, noted = await asyncio.to_thread(tables.ends, position.topic, position.partition)
        except SinkError as error:
            return [unreachable(str(error))]
        except ContinuityError as error:
            return [differs(str(error))]
        checks = [
            judged(
                landed == noted,
                f"the last landing row of the partition has the ledger's offset {noted}",
                f"the last landing row of the partition has offset {landed}, the ledger says {noted}",
            )
        ]
        if found is None:
            return checks
        row = ledger.get(found.chain)
        if row is None:
            return [*checks, differs("it has no row for this chain")]
        checks.append(
            judged(
                found.object.last_offset <= row.last_offset,
                f"it is through offset {row.last_offset}, past this object",
                f"it is through offset {row.last_offset}, before the end of this object at {found.object.last_offset}",
            )
        )
        try:
            return [*checks, *await self._lake.ledger(found.chain, row)]
        except SinkError as error:
            return [*checks, unreachable(str(error))]


async def whole_chain(store: ObjectStore, key: ChainKey) -> Step:
    """Checks a chain from its first object to its last."""
    objects = rows = 0
    try:
        async for _, lines in verify_chain(store, key):
            objects, rows = objects + 1, rows + len(lines)
    except ContinuityError as error:
        checks = (differs(str(error)),)
    except SinkError as error:
        checks = (unreachable(str(error)),)
    else:
        checks = (
            holds(f"{objects:,} objects with {rows:,} records, each as it was written and linked to the one before it"),
        )
    return Step("chain", f"{key.topic}/{key.topic_id}/{key.partition}", checks)


def _session(tables: WarehouseTables | SinkError) -> WarehouseTables:
    if isinstance(tables, SinkError):
        raise tables
    return tables


def _is_any(line: bytes, rows: list[str]) -> bool:
    return any(values.same(values.parsed(row), values.parsed(line)) for row in rows)
