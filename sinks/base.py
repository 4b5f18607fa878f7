"""Defines the contracts of this package: a store of immutable objects, and a warehouse with a ledger.

The contract of a partition that is written to a sink is `app.engine.processors.SinkPartition`.

A sink is exactly once because its position is read from the effects in it. Nothing here relies on an acknowledgement, an order of start or
a group offset. One suite tests every implementation: tests/integration/lake/test_sinks_contract.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from app.errors import BankstreamError


class SinkError(BankstreamError):
    """A destination did not do a request. The subclasses say why."""


class SinkUnavailableError(SinkError, OSError):
    """The destination did not answer or had an internal error in every attempt. The request may have taken effect."""


class SinkRefusedError(SinkError):
    """The destination refused the request. A retry of the same request cannot succeed."""


class LedgerConflictError(BankstreamError):
    """Another loader has moved the ledger. The load had no effect. Read the ledger and continue from there."""


class LakeObject(msgspec.Struct, frozen=True):
    """An object of the lake: consecutive records of one partition. `bytes` and `sha256` are of the object as stored (compressed).

    Its range begins right after `previous_last_offset`, even if its first record has a later offset: Kafka's offsets have holes. The first
    object of a chain follows (-1, "").
    """

    object: str
    topic: str
    partition: int
    first_offset: int
    last_offset: int
    rows: int
    bytes: int
    sha256: str
    previous_last_offset: int
    previous_sha256: str


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """A store's information about one of its objects."""

    size: int
    metadata: Mapping[str, str]


class ObjectStore(Protocol):
    """A store of immutable named objects. Safe for any number of writers; an object is either absent or whole.

    Every call raises SinkUnavailableError when its retries are used up, and SinkRefusedError if a retry cannot succeed.
    """

    async def put(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Store unless the name is taken. Returns whether this call stored the object.

        False can also mean that an earlier attempt of this call stored it and its reply was lost. Read the object to find out.
        """
        ...

    async def stat(self, name: str) -> ObjectStat | None:
        """Returns size and metadata; None if there is no such object."""
        ...

    async def get(self, name: str) -> bytes:
        """Returns the content. Raises SinkRefusedError if there is no such object."""
        ...

    async def names(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        """Returns up to `limit` (at most 1,000) names that begin with `prefix` and sort after `after`, in order."""
        ...

    async def children(self, prefix: str) -> list[str]:
        """Returns the folders in `prefix`, in order: the parts of names between `prefix` and the next slash."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ChainKey(NamedTuple):
    """Identifies a chain of objects by a partition of the topic with this id."""

    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """The progress of a chain: it is loaded through `last_offset`, the end of `last_object`. (-1, "", "") means nothing is loaded."""

    last_offset: int = -1
    last_object: str = ""
    last_sha256: str = ""


@dataclass(frozen=True, slots=True)
class LoadStep:
    """One chain's part of a load: these objects, in chain order after `previous`, go into the table `landing`."""

    chain: ChainKey
    previous: LedgerRow
    objects: Sequence[LakeObject]
    landing: str

    @property
    def end(self) -> LedgerRow:
        """The ledger row after the load."""
        last = self.objects[-1]
        return LedgerRow(last.last_offset, last.object, last.sha256)


class LedgerMove(NamedTuple):
    """A move of a chain's ledger row from `previous` to `end`."""

    chain: ChainKey
    previous: LedgerRow
    end: LedgerRow


class Warehouse(Protocol):
    """The landing tables and the ledger. Safe for any number of loaders.

    Every call raises SinkUnavailableError if the warehouse did not answer. Its effects are then unknown until `ledger` is read.
    """

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every committed row."""
        ...

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Add a ledger row for the chains that have none. Raises LedgerConflictError if another loader does so at the same time."""
        ...

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """Load all objects of all steps into their tables and move every ledger row, or do nothing.

        Raises LedgerConflictError if a row is not at `previous`, and SinkRefusedError if an object cannot be loaded or has other rows than
        announced.
        """
        ...

    async def close(self) -> None:
        """Close the session."""
        ...
