"""The lookup API over a bank in memory: the agents' own state, one partition per group, and every endpoint of the worker's API."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from aiokafka import TopicPartition

from app.config.settings import ApiSettings, KafkaSettings
from app.engine.committed_state import CommittedState
from app.web.alerts import AlertStreams, RecentAlerts
from app.web.api import Dependencies, make_api
from app.web.audit import AuditLog
from app.web.forwarding import Forwarder
from app.web.partition_router import ACCOUNT, CUSTOMER
from app.web.tokens import Tokens, entry, mint
from app.web.version_history import VersionRecord
from tests.support.bank.cdc import COMMIT_US, CdcLog
from tests.support.streams.topology_driver import TopologyDriver

HERE = "http://here.test:1"
SCOPES: Mapping[str, tuple[str, ...]] = {
    "clerk": ("lookup",), "officer": ("lookup", "pii"), "fraud": ("alerts",), "prometheus": ("metrics",),
}  # fmt: skip
CANARY = "Ada Canary"


class FakeWorker:
    """A worker whose partitions are in memory. Implements `Worker`."""

    def __init__(self, streams: TopologyDriver) -> None:
        self._streams = streams
        self.is_ready = True
        self.url = HERE
        self.open = True
        self.elsewhere: dict[TopicPartition, str] = {}

    def addresses(self) -> Mapping[TopicPartition, str]:
        return {TopicPartition(kind.topic, 0): HERE for kind in (CUSTOMER, ACCOUNT)} | self.elsewhere

    def committed(self, group_name: str, number: int) -> CommittedState | None:
        for group, _, partition in self._streams.members:
            if group.name == group_name and partition.number == number and self.open:
                tables = frozenset(table.name for table in group.tables)
                return CommittedState(partition.store, tables, {group.topics[0]: 12})
        return None


class FakeWarehouse:
    """The agents' records on the SCD2 topics, as if they had landed. Implements `VersionSource`."""

    def __init__(self, streams: TopologyDriver) -> None:
        self._streams = streams
        self.lag = 0
        """Number of newest records that have not landed yet."""
        self.failure: Exception | None = None

    async def records(self, table: str, key: str, value: int) -> Sequence[VersionRecord]:
        if self.failure is not None:
            raise self.failure
        wanted = json.dumps({key: value}, separators=(",", ":")).encode()
        found = [
            msgspec.json.decode(output.value, type=VersionRecord)
            for output in self._streams.outputs
            if output.topic == f"bank.scd2.{table}" and output.key == wanted and output.value is not None
        ]
        return found[: len(found) - self.lag]

    async def close(self) -> None:
        """Does nothing."""


class Bank:
    """Customers, accounts and the API. `tokens` has the tokens of several clients, `audited` the lines of the audit log."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.now_us = COMMIT_US + 3_600_000_000
        self.streams = TopologyDriver()
        self.people, self.money = CdcLog("customers", "customer_id"), CdcLog("accounts", "account_id")
        self.moves = CdcLog("transactions", "account_id", lsn=10**6)
        self.worker, self.warehouse = FakeWorker(self.streams), FakeWarehouse(self.streams)
        self.tokens = {name: mint() for name in SCOPES}
        self.tokens_file, self.audit_file = directory / "tokens.toml", directory / "audit.ndjson"
        self.write_tokens(self.tokens)
        self.settings = ApiSettings(tokens_file=self.tokens_file, audit_file=self.audit_file, **settings)
        kafka = KafkaSettings()
        self.recent = RecentAlerts(kafka, "bank.alerts", 1, self.settings.alerts_kept)
        self.live = AlertStreams(kafka, "bank.alerts", 1, self.settings.max_streams)
        self.api = make_api(self.parts())
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.api), base_url=HERE)

    def parts(self) -> Dependencies:
        return Dependencies(
            self.settings, self.worker, 1, Tokens(self.tokens_file), AuditLog(self.audit_file),
            Forwarder(max_bytes=self.settings.max_answer_bytes), self.warehouse,
            self.recent, self.live, now_us=lambda: self.now_us,
        )  # fmt: skip

    def write_tokens(self, tokens: Mapping[str, str]) -> None:
        self.tokens_file.write_text("".join(entry(name, token, SCOPES[name]) for name, token in tokens.items()))
        self.tokens_file.chmod(0o600)

    def customer(self, key: int = 7, op: str = "c", **columns: Any) -> None:
        row = {
            "customer_id": key,
            "name": CANARY,
            "email": "ada@canary.test",
            "country_code": "NO",
            "risk_rating": "low",
        } | columns
        event = self.people.change(op, before=row) if op == "d" else self.people.change(op, after=row)
        self.streams.take(event)

    def account(self, key: int = 31, **columns: Any) -> None:
        row = {
            "account_id": key,
            "customer_id": 7,
            "type": "checking",
            "currency": "EUR",
            "balance": "1250.00",
        } | columns
        self.streams.take(self.money.change("c", after=row))

    def transaction(self, key: int, amount: str, booked_at: str, **columns: Any) -> None:
        row = {
            "transaction_id": key, "account_id": 31, "type": "debit", "amount": amount, "currency": "EUR",
            "status": "posted", "booked_at": booked_at, **columns,
        }  # fmt: skip
        self.streams.take(self.moves.change("c", after=row))

    async def get(self, path: str, client: str | None = "clerk", **headers: str) -> httpx.Response:
        if client is not None:
            headers["authorization"] = f"Bearer {self.tokens[client]}"
        return await self.client.get(path, headers=headers)

    @property
    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]
