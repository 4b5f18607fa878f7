"""Maps a key to the worker that owns its partition.

Every worker answers for every key: it forwards the request to the owner if it is not the owner itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import TopicPartition

from app.config.topics import ACCOUNTS, CUSTOMERS
from app.domain.records import key_bytes
from app.engine.committed_state import CommittedState
from app.engine.keys import partition_for
from app.web.problems import unavailable

RETRY_S: Final = 1


@dataclass(frozen=True, slots=True)
class LookupEntity:
    """A kind of row that can be looked up by its key: its table, key column, partition group and input topic."""

    table: str
    key: str
    group: str
    topic: str


CUSTOMER: Final = LookupEntity("customers", "customer_id", "by-customer", CUSTOMERS.name)
ACCOUNT: Final = LookupEntity("accounts", "account_id", "by-account", ACCOUNTS.name)


class LocalWorker(Protocol):
    """The interface of the worker that serves the API."""

    @property
    def is_ready(self) -> bool:
        """Whether all partitions assigned to the worker are open and restored."""
        ...

    @property
    def url(self) -> str:
        """The URL of this worker, as it is in `addresses`."""
        ...

    def addresses(self) -> Mapping[TopicPartition, str]:
        """Returns the URL of the worker that each input partition is assigned to."""
        ...

    def committed(self, group_name: str, number: int) -> CommittedState | None:
        """Returns the committed state of a partition; None if it is not open on this worker."""
        ...


class PartitionRouter:
    """Finds the worker that owns a key, and the key's state if that is this worker."""

    def __init__(self, worker: LocalWorker, partitions: int) -> None:
        self._worker, self._partitions = worker, partitions

    def partition(self, kind: LookupEntity, key: int) -> int:
        """Returns the partition of a key, which is the partition of its changes."""
        return partition_for(key_bytes(kind.key, key), self._partitions)

    def remote_url(self, kind: LookupEntity, key: int) -> str | None:
        """Returns the URL of the worker that owns the key; None if this worker does.

        Raises ProblemError 503 during a rebalance, or if the owner is unknown or serves no API.
        """
        if not self._worker.is_ready:
            raise unavailable("The workers are rebalancing their partitions. Try again in a moment.", RETRY_S)
        number = self.partition(kind, key)
        url = self._worker.addresses().get(TopicPartition(kind.topic, number))
        if url is None:
            raise unavailable("No worker owns this key at the moment. Try again.", RETRY_S)
        if url == self._worker.url:
            return None
        if not url.startswith(("http://", "https://")):
            raise unavailable(
                "The worker that owns this key serves no lookups. Set BANKSTREAM_API_PORT for every streams worker.", 10
            )
        return url

    def local_state(self, kind: LookupEntity, key: int) -> tuple[CommittedState, int]:
        """Returns the committed state with this key, valid until the next `await`, and the key's partition.

        Raises ProblemError 503 if the partition is not open on this worker.
        """
        number = self.partition(kind, key)
        state = self._worker.committed(kind.group, number) if self._worker.is_ready else None
        if state is None:
            raise unavailable("The key's partition is not open on this worker. Try again in a moment.", RETRY_S)
        return state, number
