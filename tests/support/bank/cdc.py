"""Builds Debezium records without Debezium, so that tests can send anything that a source can send, in any order."""

import json
from dataclasses import dataclass, field
from typing import Any

COMMIT_US = 1_772_442_000_000_000
"""2026-03-02T09:00:00Z"""


@dataclass(frozen=True)
class Record:
    """A Kafka record. Implements the engine's `InputRecord`."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    offset: int = 0
    timestamp: int = COMMIT_US // 1000
    headers: tuple[tuple[str, bytes], ...] = ()


def json_bytes(value: Any) -> bytes:
    """Compact JSON, as Debezium writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(
    table: str, op: str, *, before: Any = None, after: Any = None, lsn: Any = 100, tx_id: Any = 7,
    commit_us: Any = COMMIT_US, schema: bool = False, **source: Any,
) -> bytes:  # fmt: skip
    """The value of a change."""
    payload = {
        "before": before,
        "after": after,
        "source": {
            "version": "3.6.1.Final", "connector": "postgresql", "name": "bank", "ts_ms": commit_us // 1000 if commit_us else None,
            "snapshot": "true" if op == "r" else "false", "db": "bank", "sequence": f'[null,"{lsn}"]', "ts_us": commit_us,
            "schema": "public", "table": table, "txId": tx_id, "lsn": lsn, "xmin": None, **source,
        },
        "transaction": None,
        "op": op,
        "ts_ms": (commit_us or 0) // 1000 + 20,
    }  # fmt: skip
    return json_bytes({"schema": {"type": "struct", "fields": []}, "payload": payload} if schema else payload)


@dataclass
class CdcLog:
    """One partition of one table's topic. Assigns offsets, keys and ascending log positions."""

    table: str
    key_column: str
    partition: int = 0
    lsn: int = 100
    offset: int = -1
    commit_us: int = COMMIT_US
    records: list[Record] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """The topic's name."""
        return f"bank.public.{self.table}"

    def change(
        self, op: str, *, before: Any = None, after: Any = None, lsn: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (), **kwargs: Any,
    ) -> Record:  # fmt: skip
        """The next change, one second after the one before."""
        self.lsn += 10
        self.commit_us += 1_000_000
        row = after if after is not None else before
        key = None if row is None else json_bytes({self.key_column: row[self.key_column]})
        value = envelope(
            self.table, op, before=before, after=after, lsn=self.lsn if lsn is None else lsn,
            commit_us=kwargs.pop("commit_us", self.commit_us), **kwargs,
        )  # fmt: skip
        return self.append(key, value, headers)

    def append(self, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
        """Any bytes, at the next offset."""
        self.offset += 1
        record = Record(self.topic, value, key, self.partition, self.offset, self.commit_us // 1000, headers)
        self.records.append(record)
        return record

    def again(self, record: Record) -> Record:
        """The same record at the next offset, as sent by a connector that lost its position."""
        return self.append(record.key, record.value, record.headers)
