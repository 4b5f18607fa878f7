"""Recomputes the streams worker's output in memory from the records in Kafka, one partition of a group at a time.

A worker's output is a function of its inputs and of their order. Within a topic partition the order is Kafka's. Between the topics of a
group the worker chooses the order, and this affects one thing only: the account state to which a transaction is joined. So the oracle
reads the account state in each actual record, applies the account's changes up to that state and no further, and requires that one such
order explains all records. Customers and transactions share no state, so their order does not matter.

The oracle uses the agents' oracles in Python, so the output of workers, which use the native library, is compared with another
implementation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import TRANSACTIONS
from app.engine.memory import EmittedRecord, MemoryPartition
from app.topology.handlers import build_topology
from tables.rows import ACCOUNTS
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.oracle.topology import oracles

CHUNK = 500
UNKNOWN = 0
"""The state of an account whose row has not arrived. A transaction waits for the row, and is then joined to its first state."""


class _Key(msgspec.Struct):
    account_id: int


class _Row(msgspec.Struct):
    after: dict[str, msgspec.Raw] | None = None


class _Position(msgspec.Struct):
    partition: int
    offset: int


class ForwardedRecord(msgspec.Struct):
    """The fields of a record of `bank.transactions` that identify its source and the account to which it was joined."""

    op: str
    account_id: int
    account: msgspec.Raw
    source: _Position


_keys = msgspec.json.Decoder(_Key)
_rows = msgspec.json.Decoder(_Row)
decode_forwarded = msgspec.json.Decoder(ForwardedRecord).decode


def attributes(row: Mapping[str, msgspec.Raw]) -> int:
    """A hash of the account state in a transaction record."""
    return hash(msgspec.json.encode({n: v for n, v in row.items() if n not in ("account_id", "customer_id")}))


@dataclass
class AccountsOracle:
    """One partition of the group by-account."""

    partition: MemoryPartition
    handlers: Mapping[str, Any]
    unexplained: list[str] = field(default_factory=list)
    """Records whose account state fits no order of the changes."""
    _current: dict[int, int] = field(default_factory=dict)

    def process(
        self, accounts: list[Any], transactions: Iterable[Any], joined: Mapping[int, int]
    ) -> Iterator[list[EmittedRecord]]:
        """Processes both topics. `joined` has the account state in the actual records, by the offset of the transaction's change."""
        candidates: dict[int, list[tuple[int, int]]] = {}
        for position, record in enumerate(accounts):
            row = None if record.value is None else _rows.decode(record.value).after
            if row is not None:
                candidates.setdefault(int(row["account_id"]), []).append((position, attributes(row)))
        taken, run = 0, list[Any]()
        for record in transactions:
            wanted = joined.get(record.offset)
            if wanted is not None:
                account_id = _keys.decode(record.key).account_id
                current = self._state(account_id)
                waits = current == UNKNOWN and candidates.get(account_id, [(0, UNKNOWN)])[0][1] == wanted
                if current != wanted and not waits:
                    yield self._run(run)
                    run = []
                    for position, state in candidates.get(account_id, ()):
                        if position >= taken and state == wanted:
                            yield from self._chunks(accounts[taken : position + 1])
                            taken = position + 1
                            if self._state(account_id) == wanted:
                                break
                    else:
                        self.unexplained.append(f"{record.topic}/{record.partition} offset {record.offset}")
            run.append(record)
            if len(run) == CHUNK:
                yield self._run(run)
                run = []
        yield self._run(run)
        yield from self._chunks(accounts[taken:])

    def _chunks(self, records: list[Any]) -> Iterator[list[EmittedRecord]]:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            for record in chunk:
                self._current.pop(_keys.decode(record.key).account_id, None)
            yield self._run(chunk)

    def _run(self, records: list[Any]) -> list[EmittedRecord]:
        return self.partition.process(records, self.handlers) if records else []

    def _state(self, account_id: int) -> int:
        known = self._current.get(account_id)
        if known is None:
            raw = self.partition.store.get(ACCOUNTS.name, ACCOUNTS.encode_key((account_id,)))
            known = self._current[account_id] = UNKNOWN if raw is None else attributes(ACCOUNTS.decode(raw).attributes)
        return known


@dataclass
class CustomersOracle:
    """One partition of the group by-customer."""

    partition: MemoryPartition
    handlers: Mapping[str, Any]

    def process(self, records: list[Any]) -> list[EmittedRecord]:
        """Processes consecutive records of one topic."""
        return self.partition.process(records, self.handlers)


class Oracle:
    """All partitions of both groups of one bank."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        kafka = settings_of(environment, KafkaSettings)
        settings = settings_of(environment, WorkerSettings)
        topology = oracles(build_topology(CATALOGUE, settings, kafka), settings)
        composed = {entry[0].name: entry for entry in topology}
        (accounts, of_accounts), (customers, of_customers) = composed["by-account"], composed["by-customer"]
        self.groups = (accounts, customers)
        numbers = range(kafka.partitions)
        self.accounts = [
            AccountsOracle(MemoryPartition(accounts, number, keep_logs=True), of_accounts) for number in numbers
        ]
        self.customers = [
            CustomersOracle(MemoryPartition(customers, number, keep_logs=True), of_customers) for number in numbers
        ]

    def partitions(self) -> Iterator[tuple[str, MemoryPartition]]:
        """The partitions with their group names."""
        for name, of_group in ((self.groups[0].name, self.accounts), (self.groups[1].name, self.customers)):
            for one in of_group:
                yield name, one.partition


def forwarded_account(record: Any) -> tuple[ForwardedRecord, int]:
    """Decodes a record of `bank.transactions`, and hashes its account state."""
    if record.topic != TRANSACTIONS.name:
        raise ValueError(record.topic)
    found = decode_forwarded(record.value)
    return found, hash(bytes(found.account))
