"""Checks capture: Debezium sent exactly the rows of each transaction that PostgreSQL confirmed, and no other transaction."""

from typing import Any, Final

import msgspec

from tests.faults.confirmed_transactions import Changes, ConfirmedTransactions, Op, TableName
from tests.faults.violations import Violations

INJECTED: Final = "injected"
"""Header of a record that a fault wrote into a CDC topic. It belongs to no confirmed transaction."""


class _Source(msgspec.Struct, rename={"tx_id": "txId"}):
    tx_id: int | None = None


class _Row(msgspec.Struct):
    customer_id: int = 0
    account_id: int = 0
    transaction_id: int = 0


class _Envelope(msgspec.Struct):
    op: str
    source: _Source
    before: _Row | None = None
    after: _Row | None = None


_envelopes = msgspec.json.Decoder(_Envelope)


class Captured:
    """The captured changes since the last `settle`, by transaction."""

    def __init__(self) -> None:
        self._transactions: dict[int, Changes] = {}

    def add(self, table: TableName, record: Any) -> None:
        """Adds a record of a CDC topic. Snapshot reads are ignored: they belong to no transaction."""
        if record.value is None or any(name == INJECTED for name, _ in record.headers):
            return
        envelope = _envelopes.decode(record.value)
        if envelope.op not in ("c", "u", "d") or envelope.source.tx_id is None:
            return
        kind: tuple[TableName, Op] = (table, envelope.op)  # type: ignore[assignment]
        row = envelope.after or envelope.before
        assert row is not None
        changes = self._transactions.setdefault(envelope.source.tx_id, {})
        rows, total = changes.get(kind, (0, 0))
        changes[kind] = (rows + 1, total + getattr(row, f"{table[:-1]}_id"))

    def settle(self, ledger: ConfirmedTransactions, verdict: Violations) -> None:
        """Compares the captured changes with the confirmed ones and adds each difference to `verdict`."""
        missing, differing = ledger.settle(self._transactions)
        for xid, changes in missing.items():
            rows = sum(rows for rows, _ in changes.values())
            verdict.add(f"capture: transaction {xid} with {changes} never came", lost=rows)
        for xid, (captured, confirmed) in differing.items():
            came, meant = (sum(rows for rows, _ in changes.values()) for changes in (captured, confirmed))
            verdict.add(
                f"capture: transaction {xid} came as {captured}, but {confirmed or 'no such one'} was committed",
                lost=max(0, meant - came), doubled=max(0, came - meant), wrong=int(meant == came),
            )  # fmt: skip
        self._transactions.clear()
