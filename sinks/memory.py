"""Implements the object store and the warehouse in memory, for tests and for `replay`."""

from collections.abc import Mapping, Sequence

import zstandard

from sinks.base import (
    ChainKey,
    LakeObject,
    LedgerConflictError,
    LedgerMove,
    LedgerRow,
    LoadStep,
    ObjectStat,
    ObjectStore,
    SinkRefusedError,
)
from sinks.segment import lines


class InMemoryObjectStore:
    """An object store in a dictionary."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, dict[str, str]]] = {}

    async def put(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Store unless the name is taken."""
        if name in self._objects:
            return False
        self._objects[name] = (body, dict(metadata))
        return True

    async def stat(self, name: str) -> ObjectStat | None:
        """Returns size and metadata."""
        found = self._objects.get(name)
        return None if found is None else ObjectStat(len(found[0]), found[1])

    async def get(self, name: str) -> bytes:
        """Returns the content."""
        found = self._objects.get(name)
        if found is None:
            raise SinkRefusedError(f"there is no object {name}")
        return found[0]

    async def names(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        """Returns names in order."""
        return sorted(name for name in self._objects if name.startswith(prefix) and name > after)[:limit]

    async def children(self, prefix: str) -> list[str]:
        """Returns folders in order."""
        rests = (name.removeprefix(prefix) for name in self._objects if name.startswith(prefix))
        return sorted({rest.split("/", 1)[0] for rest in rests if "/" in rest})

    async def close(self) -> None:
        """Does nothing: there are no connections."""


class InMemoryWarehouse:
    """A warehouse whose tables are lists of lines."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._ledger: dict[ChainKey, LedgerRow] = {}
        self.tables: dict[str, list[bytes]] = {}

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every row."""
        return dict(self._ledger)

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Add rows for the chains that have none."""
        for key in chains:
            self._ledger.setdefault(key, LedgerRow())

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """Load all steps or none."""
        loaded = [(step, [await self._rows(found) for found in step.objects]) for step in steps]
        for step in steps:  # no await from here on, so that no other task runs in between
            if self._ledger.get(step.chain) != step.previous:
                raise LedgerConflictError(f"ledger of {step.chain} is at {self._ledger.get(step.chain)}")
        for step, contents in loaded:
            self.tables.setdefault(step.landing, []).extend(line for rows in contents for line in rows)
            self._ledger[step.chain] = step.end

    async def advance(self, moves: Sequence[LedgerMove]) -> None:
        """Move the ledger rows alone."""
        for move in moves:
            if self._ledger.get(move.chain) == move.previous:
                self._ledger[move.chain] = move.end

    async def close(self) -> None:
        """Does nothing: there are no connections."""

    async def _rows(self, found: LakeObject) -> list[bytes]:
        body = await self._store.get(found.object)
        try:
            rows = list(lines(body))
        except zstandard.ZstdError as error:
            raise SinkRefusedError(f"{found.object} cannot be decompressed: {error}") from None
        if len(rows) != found.rows:
            raise SinkRefusedError(f"{found.object} has {len(rows)} rows, {found.rows} were announced")
        return rows
