"""The contracts of this package: a store of immutable objects, and a warehouse with a ledger.

A partition on its way into a sink is `app.engine.processors.SinkPartition`.

A sink is exactly once because it is asked: its effects are its position. Nothing here trusts an acknowledgement, an order of start or a
group offset. What every implementation owes is tested by one suite, tests/integration/lake/test_sinks_contract.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from app.errors import BankstreamError


class SinkError(BankstreamError):
    """A destination did not do what it was asked. One of the two below says which."""


class SinkUnavailableError(SinkError, OSError):
    """The destination did not answer, or failed by its own fault, as often as we were willing to try. What was asked may have happened."""


class SinkRefusedError(SinkError):
    """The destination answered, and the answer is no: trying the same again cannot help."""


class LedgerConflictError(BankstreamError):
    """The ledger is not where the load began: another loader was there. Nothing of the load took effect; read the ledger and go on."""


class LakeObject(msgspec.Struct, frozen=True):
    """An object of the lake: consecutive records of one partition. `bytes` and `sha256` are of the object as stored (compressed).

    It begins right after `previous_last_offset`, whatever offset its first record has: holes are Kafka's. (-1, "") begins a chain.
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
    """What a store says about one of its objects."""

    size: int
    metadata: Mapping[str, str]


class ObjectStore(Protocol):
    """Immutable named objects. Safe for any number of writers; an object is either absent or whole.

    Every call raises SinkUnavailableError when its retries are used up, SinkRefusedError when they would be useless.
    """

    async def put(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Store unless the name is taken. True: stored by this call. False: taken, perhaps by an earlier try of this very call whose
        reply was lost; read it to know."""
        ...

    async def stat(self, name: str) -> ObjectStat | None:
        """Size and metadata; None if there is no such object."""
        ...

    async def get(self, name: str) -> bytes:
        """The content. SinkRefusedError if there is no such object."""
        ...

    async def names(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        """Up to `limit` (at most 1,000) names that begin with `prefix` and stand behind `after`, in order."""
        ...

    async def children(self, prefix: str) -> list[str]:
        """The next parts of the names that begin with `prefix` and go on behind another slash: its folders, in order."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class ChainKey(NamedTuple):
    """One chain of objects: a partition of the topic with this id."""

    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """How far a chain is loaded: through `last_offset`, which `last_object` ends with. (-1, "", "") is nothing yet."""

    last_offset: int = -1
    last_object: str = ""
    last_sha256: str = ""


@dataclass(frozen=True, slots=True)
class LoadStep:
    """What a load does to one chain: from `previous`, through these objects in chain order, into the table `landing`."""

    chain: ChainKey
    previous: LedgerRow
    objects: Sequence[LakeObject]
    landing: str

    @property
    def end(self) -> LedgerRow:
        """The ledger row afterwards."""
        last = self.objects[-1]
        return LedgerRow(last.last_offset, last.object, last.sha256)


class LedgerMove(NamedTuple):
    """A chain's row of the ledger from one place to the next."""

    chain: ChainKey
    previous: LedgerRow
    end: LedgerRow


class Warehouse(Protocol):
    """Landing tables and the ledger. Safe for any number of loaders.

    Every call raises SinkUnavailableError when the warehouse did not answer; its effects are then unknown until `ledger` is read.
    """

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Every row, as committed."""
        ...

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """See that these chains have a ledger row. Those that have one keep it. LedgerConflictError when another loader did the same."""
        ...

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """All objects of all steps into their tables and every ledger row forward, or nothing at all.

        LedgerConflictError: a row is not at `previous`. SinkRefusedError: an object cannot be loaded or has other rows than announced.
        """
        ...

    async def close(self) -> None:
        """Let go of the session."""
        ...
