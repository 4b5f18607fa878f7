"""Records tests/data/bank-cdc.ndjson.zst: real Debezium events of the product's own schema.

Run it with `python -m tests.support.bank.capture_cdc`.

It starts a private stack. Some customers exist before the connector starts (a snapshot). Then the simulated bank runs for a quarter of a
minute, and then the changes of tests/data/hard-changes.sql are applied. Every committed record of the CATALOGUE.cdc topics and of both
heartbeat topics is written as `kcat -C -J` writes it, in the order of time, each partition in its own order.

It also writes tests/data/bank-cdc.facts.json: PostgreSQL's rows at the end, and the labels of the frauds.
"""

import asyncio
import heapq
import json
import threading
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import psycopg
import zstandard

from app.config.settings import KafkaSettings, PostgresSettings, SourceSettings
from app.config.topics import CONNECT_HEARTBEAT, HEARTBEAT
from app.local.simulator.simulation import Simulation, SimulationOptions
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import CONNECTOR, SOURCE, TOPICS
from tests.support.bank.cdc_reader import CdcRecord, read_cdc
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import private_stack, settings_of
from tests.support.paths import DATA

EVENTS: Final = DATA / "bank-cdc.ndjson.zst"
FACTS: Final = DATA / "bank-cdc.facts.json"
HARD: Final = DATA / "hard-changes.sql"
TABLES: Final = ("customers", "accounts", "transactions")
CUSTOMERS: Final = 40
MARKER: Final = "end of the capture"


def main() -> None:
    """Capture and write both files."""
    with private_stack(Part.POSTGRES, Part.KAFKA, Part.CONNECT, steps=(SOURCE, TOPICS)) as stack:
        simulate(stack, transactions=20, rate=20, seed=11, fraud_rate=0)
        Stack(stack.home.path, parts=stack.parts, steps=(CONNECTOR,)).up()
        simulate(stack, transactions=240, rate=16, seed=28, fraud_rate=0.03)  # this seed completes every fraud pattern
        with owner(stack) as connection:
            for step in HARD.read_text(encoding="utf-8").split("\n\n"):
                connection.execute(step.encode())
            facts = {
                "rows": {table: everything(connection, table) for table in TABLES},
                "labels": everything(connection, "fraud_labels"),
            }
        names = [topic.name for topic in (*CATALOGUE.cdc, HEARTBEAT, CONNECT_HEARTBEAT)]
        records = asyncio.run(read_cdc(settings_of(stack, KafkaSettings), names, complete))
    DATA.mkdir(exist_ok=True)
    text = "".join(json.dumps(kcat(record), ensure_ascii=False) + "\n" for record in in_time(records))
    EVENTS.write_bytes(zstandard.compress(text.encode(), 19))
    FACTS.write_text(json.dumps(facts, ensure_ascii=False, indent=1, default=plain) + "\n", encoding="utf-8")


def simulate(stack: Stack, *, transactions: int, rate: float, seed: int, fraud_rate: float) -> None:
    """Runs the simulated bank for this number of transactions."""
    options = SimulationOptions(rate, transactions, seed, fraud_rate, CUSTOMERS)
    Simulation(settings_of(stack, PostgresSettings), options, threading.Event().wait, lambda _: None).run()


def owner(stack: Stack) -> psycopg.Connection[Any]:
    """A connection as the owner of the tables."""
    settings = settings_of(stack, SourceSettings)
    assert settings.owner_password is not None
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.dbname,
        user=settings.owner_user,
        password=settings.owner_password.get_secret_value(),
        autocommit=True,
    )


def everything(connection: psycopg.Connection[Any], table: str) -> list[dict[str, Any]]:
    """All rows of a table by key. Numerics, and times beyond Python's range, are text."""
    columns = [
        name
        for (name,) in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
            [table],
        )
    ]
    fields = ", ".join(f"{name}::text" if name == "date_of_birth" else name for name in columns)
    found = connection.execute(f"SELECT {fields} FROM {table} ORDER BY 1".encode())  # noqa: S608 - names of our own tables
    return [dict(zip(columns, row, strict=True)) for row in found]


def plain(value: object) -> str:
    """Converts a value to a type that JSON has."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date | Decimal):
        return str(value)
    raise TypeError(type(value))


def complete(records: list[CdcRecord]) -> bool:
    """Whether the last change has been read. All other records were committed with it or earlier."""
    return any(
        record.topic == HEARTBEAT.name and record.value and (record.value["after"] or {}).get("marker") == MARKER
        for record in records
    )


def in_time(records: Iterable[CdcRecord]) -> Iterable[CdcRecord]:
    """Sorts records by timestamp, and keeps the order of each partition."""
    partitions: dict[tuple[str, int], list[CdcRecord]] = defaultdict(list)
    for record in records:
        partitions[record.topic, record.partition].append(record)
    return heapq.merge(*partitions.values(), key=lambda record: record.timestamp)


def kcat(record: CdcRecord) -> dict[str, Any]:
    """A record as `kcat -C -J` writes it."""
    line: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "tstype": "create",
        "ts": record.timestamp,
        "broker": 1,
    }
    if record.headers:
        line["headers"] = [text for name, value in record.headers for text in (name, value.decode())]
    line["key"] = record.raw_key.decode() if record.raw_key is not None else None
    line["payload"] = record.raw_value.decode() if record.raw_value is not None else None
    return line


if __name__ == "__main__":
    main()
