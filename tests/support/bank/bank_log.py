"""Builds a bank's history as the rows of the warehouse's landing tables, from calls such as insert, update and delete.

Raw changes are Debezium envelopes as ops/connect configures them: decimals as strings, ISO times, replica identity FULL. SCD2 records are
derived from them by the rules of the contract, without the application's code: the warehouse tests compare the two, so they must not
share a mistake.
"""

import json
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Row = dict[str, Any]

KEYS: Final = {"customers": "customer_id", "accounts": "account_id", "transactions": "transaction_id"}
MESSAGE_KEYS: Final = {"customers": "customer_id", "accounts": "account_id", "transactions": "account_id"}
UNTRACKED: Final = {"balance", "updated_at"}
START: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as in the output of the streams worker."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class BankLog:
    """A bank as the log of its changes. Every method is one transaction in PostgreSQL."""

    partitions: int = 2
    schema_envelope: bool = False
    """Whether the next values are written as {schema, payload}."""
    clock: datetime = START
    lsn: int = 28_000_000
    tx_id: int = 700
    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {table: {} for table in KEYS})
    history: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """Every record so far, by landing table."""
    taken: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    offsets: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    open_versions: dict[tuple[str, int], Row] = field(default_factory=dict)
    known: set[tuple[str, int]] = field(default_factory=set)

    def take(self) -> dict[str, list[Row]]:
        """The records since the last call, by landing table, in order."""
        fresh = {table: records[self.taken[table] :] for table, records in self.history.items()}
        self.taken.update({table: len(records) for table, records in self.history.items()})
        return fresh

    def insert(self, table: str, **row: Any) -> None:
        """INSERT of one row."""
        key = row[KEYS[table]]
        self._commit()
        self._change(table, "c", None, row)
        self.rows[table][key] = row

    def update(self, table: str, key: int, **changes: Any) -> None:
        """UPDATE of one row. A new message key (or primary key) is a delete, a tombstone and a create, at one lsn."""
        before = self.rows[table].pop(key)
        after = before | changes
        self._commit()
        moved = before[MESSAGE_KEYS[table]] != after[MESSAGE_KEYS[table]] or before[KEYS[table]] != after[KEYS[table]]
        if moved:
            rekeyed = before[KEYS[table]] != after[KEYS[table]]
            self._change(table, "d", before, None, close="key_changed" if rekeyed else "deleted")
            self._tombstone(table, before)
            self._change(table, "c", None, after, advance=False, reason="key_changed" if rekeyed else None)
        else:
            self._change(table, "u", before, after)
        self.rows[table][after[KEYS[table]]] = after

    def delete(self, table: str, key: int) -> None:
        """DELETE of one row, and its tombstone."""
        before = self.rows[table].pop(key)
        self._commit()
        self._change(table, "d", before, None)
        self._tombstone(table, before)

    def truncate(self, table: str) -> None:
        """TRUNCATE: one event without a key, on one partition."""
        self._commit()
        self.lsn += 208
        source = self._land(table, None, self._envelope(table, "t", None, None), partition=1)
        for (of, key), version in list(self.open_versions.items()):
            if of == table:
                self._close(table, key, version, "truncated", source)
        self.rows[table].clear()

    def snapshot(self, table: str) -> None:
        """A new snapshot reads every row again. Unchanged rows get no new version. The versions of deleted rows are closed."""
        self._commit()
        self.lsn += 208
        rows = list(self.rows[table].values())
        for number, row in enumerate(rows):
            mark = "last_in_data_collection" if number == len(rows) - 1 else "true"
            source = self._land(table, row, self._envelope(table, "r", None, row, snapshot=mark))
        for (of, key), version in list(self.open_versions.items()):
            if of == table and key not in self.rows[table]:
                self._close(table, key, version, "vanished", source)

    def vanish(self, table: str, key: int) -> None:
        """DELETE of one row while there is no slot: the log does not have it."""
        del self.rows[table][key]

    def replay(self, index: int) -> None:
        """Appends an old raw change again at a new offset, like a connector that lost its position."""
        old = self.history["CDC_EVENTS"][index]
        self._append("CDC_EVENTS", old["topic"], old["partition"], old["key"], old["value"])

    def refused(self, table: str, value: Any, *, base64: str | None = None, reason: str = "not_an_envelope") -> None:
        """A record on the table's topic that the streams worker makes a dead letter. `base64`: the value is not JSON."""
        topic, extra = f"bank.public.{table}", {} if base64 is None else {"value_base64": base64}
        self._letter(topic, 0, self._append("CDC_EVENTS", topic, 0, None, value, **extra), reason)

    def refused_update(self, table: str, key: int, **changes: Any) -> None:
        """A readable UPDATE that the streams worker makes a dead letter. It has no effect."""
        self._commit()
        self.lsn += 208
        before = self.rows[table][key]
        source = self._land(table, before, self._envelope(table, "u", before, before | changes))
        self._letter(source["topic"], source["partition"], source["offset"], "bad_amount")

    def _letter(self, topic: str, partition: int, offset: int, reason: str) -> None:
        letter = {
            "topic": topic, "partition": partition, "offset": offset, "key": None, "value": "AAAB", "reason": reason,
            "stage": "decode", "error": "PoisonRecordError", "message": "the value is no change of a row",
            "failed_at": iso(self.clock),
        }  # fmt: skip
        self._append("DEAD_LETTERS", "bank.dead-letters", 0, None, letter)

    def alert(self, transaction_id: int, rule: str = "large-amount") -> None:
        """An alert of the fraud rules about a transaction."""
        row = self.rows["transactions"][transaction_id]
        value = {
            "alert_id": f"{rule}:{transaction_id}", "rule": rule, "severity": "high", "score": "0.9100",
            "customer_id": self.rows["accounts"][row["account_id"]]["customer_id"], "account_id": row["account_id"],
            "transaction_id": transaction_id, "event_time": row["booked_at"], "detected_at": iso(self.clock),
            "features": {"amount": row["amount"]}, "explanation": "An amount far above the customer's own history.",
            "evidence": [], "source": self._last_source("transactions"),
        }  # fmt: skip
        self._append("ALERTS", "bank.alerts", 0, {"customer_id": value["customer_id"]}, value)

    def velocity(self, transaction_id: int) -> None:
        """The windows of a customer at a transaction."""
        row = self.rows["transactions"][transaction_id]
        window = {"count": 1, "sum": row["amount"], "average": row["amount"], "max": row["amount"]}
        value = {
            "customer_id": self.rows["accounts"][row["account_id"]]["customer_id"], "account_id": row["account_id"],
            "transaction_id": transaction_id, "event_time": row["booked_at"],
            "windows": dict.fromkeys(("1m", "5m", "1h", "24h", "7d", "30d"), window),
            "seconds_since_previous": None, "source": self._last_source("transactions"),
        }  # fmt: skip
        self._append("VELOCITY", "bank.velocity", 0, {"customer_id": value["customer_id"]}, value)

    def _commit(self) -> None:
        self.clock += timedelta(milliseconds=250)
        self.tx_id += 1

    def _change(
        self, table: str, operation: str, before: Row | None, after: Row | None, *, advance: bool = True,
        reason: str | None = None, close: str = "deleted",
    ) -> None:  # fmt: skip
        if advance:
            self.lsn += 208
        row = after or before
        assert row is not None
        source = self._land(table, row, self._envelope(table, operation, before, after))
        if table == "transactions":
            self._joined(operation, row, source)
        else:
            self._version(table, before, after, source, reason, close)

    def _joined(self, operation: str, row: Row, source: Row) -> None:
        account = dict(self.rows["accounts"][row["account_id"]])
        customer_id = account.pop("customer_id")
        value = {
            "op": {"c": "created", "u": "updated", "d": "deleted"}[operation], **row, "customer_id": customer_id,
            "account": {name: value for name, value in account.items() if name != "account_id"}, "source": source,
        }  # fmt: skip
        self._append(
            "TRANSACTIONS", "bank.transactions", self._partition(customer_id), {"customer_id": customer_id}, value
        )

    def _version(
        self, table: str, before: Row | None, after: Row | None, source: Row, reason: str | None, close: str
    ) -> None:
        row = after or before
        assert row is not None
        key = row[KEYS[table]]
        version = self.open_versions.get((table, key))
        if after is None:
            if version is not None:
                self._close(table, key, version, close, source)
            return
        changed = sorted(name for name in after if version is None or version["attributes"].get(name) != after[name])
        if version is not None:
            if set(changed) <= UNTRACKED:
                return
            self._close(table, key, version, "superseded", source)
        opened = {
            "op": "open", "version_id": f"{table}:{key}:{source['partition']}:{source['offset']}", "key": {KEYS[table]: key},
            "valid_from": iso(self.clock), "valid_to": None, "attributes": after, "changed": changed,
            "reason": reason or ("updated" if version else "revived" if (table, key) in self.known else "created"),
            "source": source,
        }  # fmt: skip
        self.known.add((table, key))
        self.open_versions[table, key] = opened
        self._land_version(table, key, opened)

    def _close(self, table: str, key: int, version: Row, reason: str, source: Row) -> None:
        del self.open_versions[table, key]
        closed = {name: version[name] for name in ("version_id", "key", "valid_from")}
        self._land_version(
            table, key, {"op": "close", **closed, "valid_to": iso(self.clock), "reason": reason, "source": source}
        )

    def _land_version(self, table: str, key: int, value: Row) -> None:
        self._append(f"SCD2_{table.upper()}", f"bank.scd2.{table}", self._partition(key), {KEYS[table]: key}, value)

    def _envelope(
        self, table: str, operation: str, before: Row | None, after: Row | None, *, snapshot: str = "false"
    ) -> Row:  # fmt: skip
        micros = int(self.clock.timestamp() * 1_000_000)
        envelope = {
            "before": before, "after": after, "op": operation, "ts_ms": micros // 1000 + 20,
            "source": {
                "version": "3.6.1.Final", "connector": "postgresql", "name": "bank", "ts_ms": micros // 1000, "ts_us": micros,
                "snapshot": snapshot, "db": "bank", "schema": "public", "table": table,
                "txId": self.tx_id, "lsn": self.lsn, "sequence": f'[null,"{self.lsn}"]',
            },
            "transaction": None if operation == "r" else {"id": f"{self.tx_id}:{self.lsn}", "total_order": 1},
        }  # fmt: skip
        return {"schema": {"type": "struct"}, "payload": envelope} if self.schema_envelope else envelope

    def _land(self, table: str, row: Row | None, value: Row, partition: int | None = None) -> Row:
        name = MESSAGE_KEYS[table]
        key = None if row is None else {name: row[name]}
        at = self._partition(row[name]) if row is not None else partition or 0
        offset = self._append("CDC_EVENTS", f"bank.public.{table}", at, key, value)
        return {
            "topic": f"bank.public.{table}", "partition": at, "offset": offset, "lsn": self.lsn, "tx_id": self.tx_id,
            "commit_time": iso(self.clock),
        }  # fmt: skip

    def _tombstone(self, table: str, row: Row) -> None:
        name = MESSAGE_KEYS[table]
        self._append("CDC_EVENTS", f"bank.public.{table}", self._partition(row[name]), {name: row[name]}, None)

    def _append(self, landing: str, topic: str, partition: int, key: Row | None, value: Any, **extra: str) -> int:
        offset = self.offsets[topic, partition]
        self.offsets[topic, partition] += 1
        self.history[landing].append({
            "topic": topic, "partition": partition, "offset": offset, "ts": int(self.clock.timestamp() * 1000) + 30,
            "key": key, "value": value, **extra,
        })  # fmt: skip
        return offset

    def _last_source(self, table: str) -> Row:
        last = next(r for r in reversed(self.history["CDC_EVENTS"]) if r["topic"].endswith(table) and r["value"])
        return {
            "topic": last["topic"], "partition": last["partition"], "offset": last["offset"], "lsn": self.lsn,
            "tx_id": self.tx_id, "commit_time": iso(self.clock),
        }  # fmt: skip

    def _partition(self, key: int) -> int:
        return zlib.crc32(json.dumps(key).encode()) % self.partitions
