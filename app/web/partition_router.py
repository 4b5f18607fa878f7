"""Where a key's state is: which group and partition, and which worker has that open. Any worker answers for any key by asking that one."""

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
    """What can be asked for by its key."""

    table: str
    key: str
    group: str
    topic: str


CUSTOMER: Final = LookupEntity("customers", "customer_id", "by-customer", CUSTOMERS.name)
ACCOUNT: Final = LookupEntity("accounts", "account_id", "by-account", ACCOUNTS.name)


class LocalWorker(Protocol):
    """What the API needs of the worker that it is served by."""

    @property
    def is_ready(self) -> bool:
        """Whether all that was assigned to it is open and read."""
        ...

    @property
    def url(self) -> str:
        """Where others reach it, as it is in `addresses`."""
        ...

    def addresses(self) -> Mapping[TopicPartition, str]:
        """Which worker was assigned each input partition."""
        ...

    def committed(self, group_name: str, number: int) -> CommittedState | None:
        """The committed state of a partition that is open here."""
        ...


class PartitionRouter:
    """Finds the owner of a key."""

    def __init__(self, worker: LocalWorker, partitions: int) -> None:
        self._worker, self._partitions = worker, partitions

    def partition(self, kind: LookupEntity, key: int) -> int:
        """The partition of a key: that of its changes."""
        return partition_for(key_bytes(kind.key, key), self._partitions)

    def elsewhere(self, kind: LookupEntity, key: int) -> str | None:
        """The address of the worker to ask; None: this one. ProblemError 503 while nobody is known to have it."""
        if not self._worker.is_ready:
            raise unavailable("The workers are sharing out their partitions anew. Ask again in a moment.", RETRY_S)
        number = self.partition(kind, key)
        url = self._worker.addresses().get(TopicPartition(kind.topic, number))
        if url is None:
            raise unavailable("No worker is known to have this key at the moment. Ask again.", RETRY_S)
        if url == self._worker.url:
            return None
        if not url.startswith(("http://", "https://")):
            raise unavailable(
                "The worker that has this key serves no lookups: set BANKSTREAM_API_PORT for all of them.", 10
            )
        return url

    def here(self, kind: LookupEntity, key: int) -> tuple[CommittedState, int]:
        """The committed state that has this key, until the next `await`, and its partition. ProblemError 503 when it is not open here."""
        number = self.partition(kind, key)
        state = self._worker.committed(kind.group, number) if self._worker.is_ready else None
        if state is None:
            raise unavailable("This worker does not have the key's partition open. Ask again in a moment.", RETRY_S)
        return state, number
