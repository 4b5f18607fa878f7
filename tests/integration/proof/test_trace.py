"""Tests that a trace leads from gold to PostgreSQL's WAL, and finds every change on the way: a byte, a row, a ledger, a cell."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
import zstandard
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from typer.testing import CliRunner

from app.cli.main import app
from app.config.settings import KafkaSettings
from app.config.topics import CUSTOMERS, DEAD_LETTERS, SCD2_CUSTOMERS, TRANSACTIONS
from app.proof.trace import Step, Trace, TraceError, trace
from sinks.base import LakeObject
from sinks.segment import digest
from tests.support.bank.cdc import Record
from tests.support.machine.stack import settings_of
from tests.support.streams.broker import admin_client
from tests.support.warehouse.proof import Proof

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]  # the models are built first

ALERT = "card_testing:1-10-103"


def every(step: Step) -> Iterator[Step]:
    """A step and all steps below it."""
    yield step
    for below in step.steps:
        yield from every(below)


def places(found: Trace, name: str) -> list[str]:
    return [step.place for step in every(found.way) if step.name == name]


def told(found: Trace) -> str:
    return "\n".join(
        f"{step.name} {step.place} {check.verdict}: {check.what}" for step in every(found.way) for check in step.checks
    )


@pytest.mark.parametrize(
    ("table", "key", "names"),
    [
        ("dim_account", "10", {"open record", "change", "PostgreSQL"}),
        ("dim_customer", "2", {"open record", "close record", "change", "PostgreSQL"}),
        ("fct_transactions", "103", {"change", "PostgreSQL"}),
        ("fct_alerts", ALERT, {"record", "change", "evidence", "PostgreSQL"}),
        ("customers", "1", {"change", "PostgreSQL"}),
    ],
)
def test_every_step_of_an_untouched_row_holds(modelled: Proof, table: str, key: str, names: set[str]) -> None:
    found = trace(modelled.environment, table, key, whole_chains=table == "dim_account")
    assert found.verdict == "holds", told(found)
    assert found.exit_code == 0
    steps = {step.name for step in every(found.way)}
    assert steps >= names | {"landing row", "object", "ledger", "Kafka"}
    assert not {"unreachable", "expired"} & set(re.findall(r"\w+", told(found)))


def test_a_record_that_no_model_shows_can_be_traced_too(modelled: Proof) -> None:
    for topic in (TRANSACTIONS, DEAD_LETTERS):
        found = trace(modelled.environment, topic.name, f"0/{modelled.records[topic.name][-1].offset}")
        assert found.verdict == "holds", told(found)


def test_an_old_version_leads_to_the_change_that_opened_it_and_to_the_one_that_closed_it(modelled: Proof) -> None:
    found = trace(modelled.environment, "dim_customer", "1", version=1)
    created, updated = (it for it in modelled.records[CUSTOMERS.name] if it.key == b'{"customer_id":1}')
    assert places(found, "change") == [f"{CUSTOMERS.name}/0/{it.offset}" for it in (created, updated)]
    [version] = modelled.execute(
        "SELECT customer_version_id FROM GOLD.DIM_CUSTOMER WHERE customer_id = 1 AND version_number = 1"
    )
    assert trace(modelled.environment, "dim_customer", str(version[0])).way.place == found.way.place


def test_a_record_on_which_json_parsers_disagree_is_traced_by_its_bytes(modelled: Proof) -> None:
    record = next(it for it in modelled.records[CUSTOMERS.name] if it.value is not None and it.value.startswith(b" "))
    opened = next(it for it in modelled.records[SCD2_CUSTOMERS.name] if it.key == record.key)
    found = trace(modelled.environment, SCD2_CUSTOMERS.name, f"0/{opened.offset}")
    assert found.verdict == "holds", told(found)
    assert places(found, "change") == [f"{CUSTOMERS.name}/0/{record.offset}"]


def test_missing_data_is_reported(modelled: Proof) -> None:
    with pytest.raises(TraceError, match=r"GOLD.DIM_CUSTOMER has no row with customer_id 77"):
        trace(modelled.environment, "dim_customer", "77")
    with pytest.raises(TraceError, match="cannot be traced"):
        trace(modelled.environment, "volume_per_minute", "1")
    found = trace(modelled.environment, CUSTOMERS.name, "0/99999999")
    assert {line.rpartition(": ")[2] for line in found.differences()} >= {
        "no landing row has this position", "no object of the lake has this offset",
    }  # fmt: skip


# what was changed


@contextmanager
def overwritten(modelled: Proof, found: LakeObject, body: bytes, **metadata: str) -> Iterator[None]:
    """Replaces the content and the metadata of an object."""
    s3, where = modelled.s3(), modelled.stored(found.object)
    before = s3.get_object(**where)
    kept, names = before["Body"].read(), before["Metadata"]
    s3.put_object(
        **where, Body=body, Metadata=names | {key.replace("_", "-"): value for key, value in metadata.items()}
    )
    try:
        yield
    finally:
        s3.put_object(**where, Body=kept, Metadata=names)


@contextmanager
def executed(modelled: Proof, table: str, statement: str) -> Iterator[None]:
    """Runs a statement on a table, and restores the table afterwards."""
    kept = f"BRONZE.KEPT_{uuid4().hex[:8].upper()}"
    modelled.execute(f"CREATE TABLE {kept} AS SELECT * FROM {table}")  # noqa: S608 - our own names, here and below
    try:
        modelled.execute(statement)
        yield
    finally:
        modelled.execute(f"DELETE FROM {table}")  # noqa: S608
        modelled.execute(f"INSERT INTO {table} SELECT * FROM {kept}")  # noqa: S608
        modelled.execute(f"DROP TABLE {kept}")


def body_of(modelled: Proof, found: LakeObject) -> bytes:
    body: bytes = modelled.s3().get_object(**modelled.stored(found.object))["Body"].read()
    return body


def opening(modelled: Proof, topic: str = CUSTOMERS.name) -> Record:
    """The first record of customer 1."""
    return next(it for it in modelled.records[topic] if it.key == b'{"customer_id":1}')


def refused(modelled: Proof, table: str = "dim_customer", key: str = "1", version: int | None = 1) -> list[str]:
    """The places that differ; the trace's exit code is 1."""
    found = trace(modelled.environment, table, key, version=version)
    assert found.exit_code == 1, told(found)
    return found.differences()


def test_one_changed_byte_of_an_object_is_found(modelled: Proof) -> None:
    found = modelled.holding(opening(modelled))
    body = bytearray(body_of(modelled, found))
    body[len(body) // 2] ^= 1
    with overwritten(modelled, found, bytes(body)):
        wrong = refused(modelled)
    assert any(f"object {found.object}: its bytes hash to" in line for line in wrong)


def test_an_object_that_was_forged_with_its_hash_is_found_by_its_neighbours_and_by_the_landing_row(
    modelled: Proof,
) -> None:
    found = modelled.holding(opening(modelled))
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(body_of(modelled, found))
    assert b"M\xc3\xbcnchen" in lines
    forged = zstandard.compress(lines.replace(b"M\xc3\xbcnchen", b"Berlin!!"))
    with overwritten(modelled, found, forged, sha256=digest(forged)):
        told_all = told(trace(modelled.environment, "dim_customer", "1", version=1))
    assert [
        expected
        for expected in (
            "differs: the object after it follows offset",
            "differs: it differs from its line in value.after.city",
            "differs: Kafka's record has another value",
            "differs: attributes that differ from the row after the change: city",
        )
        if expected not in told_all
    ] == [], told_all


@pytest.mark.parametrize(
    "changes",
    [
        {
            "UPDATE BRONZE.CDC_EVENTS SET record = parse_json(replace(to_json(record), 'München', 'Munchen')) WHERE {at}": (
                "landing row BRONZE.CDC_EVENTS: it differs from its line in value.after.city"
            ),
            "UPDATE BRONZE.LAKE_LEDGER SET last_sha256 = '{hash}' {ledger}": "and sha256 000000000000… of",
            "UPDATE GOLD.DIM_CUSTOMER SET city = 'Rome', valid_to = dateadd(second, 1, valid_to) {first}": (
                "columns that differ from their source values: city, valid_to"
            ),
        },
        {
            "DELETE FROM BRONZE.CDC_EVENTS WHERE {at}": "no landing row has this position",
            "UPDATE BRONZE.LAKE_LEDGER SET last_offset = last_offset + 1 {ledger}": "the ledger says",
            "DELETE FROM BRONZE.SCD2_CUSTOMERS WHERE record:value:op::varchar = 'close'": (
                "it needs one open and one close record; landed are: open"
            ),
        },
        {
            "INSERT INTO BRONZE.CDC_EVENTS SELECT record FROM BRONZE.CDC_EVENTS WHERE {at}": (
                "2 landing rows have this position, 1 lines of the lake do"
            ),
            "DELETE FROM BRONZE.LAKE_LEDGER {ledger}": "it has no row for this chain",
        },
        {
            "UPDATE BRONZE.LAKE_LEDGER SET last_offset = {last}, last_object = '{object}', last_sha256 = '{sha256}' {ledger}": (
                "the last landing row of the partition has offset"
            ),
        },
    ],
    ids=["cells", "rows gone", "rows doubled", "the ledger put back"],
)
def test_any_change_in_the_warehouse_is_found(modelled: Proof, changes: dict[str, str]) -> None:
    first = modelled.objects[CUSTOMERS.name][0]
    words = {
        "at": f"record:topic::varchar = '{CUSTOMERS.name}' AND record:offset::number(38, 0) = {opening(modelled).offset}",
        "ledger": f"WHERE topic = '{CUSTOMERS.name}'", "first": "WHERE customer_id = 1 AND version_number = 1", "hash": "0" * 64,
        "last": first.last_offset, "object": first.object, "sha256": first.sha256,
    }  # fmt: skip
    with ExitStack() as stack:
        for statement in changes:
            table = re.split(r"(?:UPDATE|DELETE FROM|INSERT INTO) ", statement)[1].split()[0]
            stack.enter_context(executed(modelled, table, statement.format(**words)))
        wrong = "\n".join(refused(modelled))
    assert [expected for expected in changes.values() if expected not in wrong] == [], wrong


def test_a_forged_version_id_is_found_though_lake_and_warehouse_agree_on_it(modelled: Proof) -> None:
    record = opening(modelled, SCD2_CUSTOMERS.name)
    assert record.value is not None
    real, forged_id = json.loads(record.value)["version_id"], "f" * 32
    found = modelled.holding(record)
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(body_of(modelled, found))
    forged = zstandard.compress(lines.replace(real.encode(), forged_id.encode()))
    swap = f"SET record = parse_json(replace(to_json(record), '{real}', '{forged_id}'))"
    with (
        overwritten(modelled, found, forged, sha256=digest(forged)),
        executed(modelled, "BRONZE.SCD2_CUSTOMERS", f"UPDATE BRONZE.SCD2_CUSTOMERS {swap}"),
    ):
        wrong = "\n".join(refused(modelled, SCD2_CUSTOMERS.name, f"0/{record.offset}", None))
    assert f"version_id is {forged_id}, but table, key and source position give {real}" in wrong


@pytest.mark.parametrize(
    ("table", "key", "change", "expected"),
    [
        (
            "fct_transactions",
            "103",
            "amount = amount + 0.01, account_version_id = '0' WHERE transaction_id = 103",
            ("source values: amount", "GOLD.DIM_ACCOUNT 0 is not the version at its booking time"),
        ),
        ("fct_alerts", ALERT, "explanation = 'nothing' WHERE true", ("source values: explanation",)),
        ("fct_velocity", "103", "transaction_count = 99 WHERE window_name = '5m'", ("window 5m that differ",)),
    ],
)
def test_a_changed_cell_of_a_fact_is_found(
    modelled: Proof, table: str, key: str, change: str, expected: tuple[str, ...]
) -> None:
    with executed(modelled, f"GOLD.{table}", f"UPDATE GOLD.{table} SET {change}"):  # noqa: S608
        wrong = "\n".join(refused(modelled, table, key, None))
    assert [text for text in expected if text not in wrong] == [], wrong


def test_a_removed_object_far_from_the_row_is_found_by_a_trace_of_whole_chains(modelled: Proof) -> None:
    s3, last = modelled.s3(), modelled.objects[CUSTOMERS.name][-2]
    where = modelled.stored(last.object)
    before = s3.get_object(**where)
    body, metadata = before["Body"].read(), before["Metadata"]
    s3.delete_object(**where)
    try:
        found = trace(modelled.environment, CUSTOMERS.name, f"0/{opening(modelled).offset}", whole_chains=True)
    finally:
        s3.put_object(**where, Body=body, Metadata=metadata)
    assert found.exit_code == 1
    assert any(line.startswith("chain ") for line in found.differences())


# what does not answer


def test_unavailable_places_are_not_reported_as_differences(modelled: Proof) -> None:
    away = {
        "BANKSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "BANKSTREAM_POSTGRES_PORT": "1", "BANKSTREAM_SNOWFLAKE_PASSWORD": "wrong",
    }  # fmt: skip
    found = trace(modelled.environment | away, CUSTOMERS.name, f"0/{opening(modelled).offset}")
    assert found.exit_code == 2, told(found)
    steps = {step.name: step.verdict for step in every(found.way)}
    assert steps == {
        "change": "unreachable", "landing row": "unreachable", "object": "holds", "ledger": "unreachable", "Kafka": "unreachable",
        "PostgreSQL": "unreachable",
    }  # fmt: skip
    no_lake = {"BANKSTREAM_S3_ENDPOINT_URL": "http://127.0.0.1:1", "BANKSTREAM_S3_MAX_ATTEMPTS": "1"}
    found = trace(modelled.environment | no_lake, CUSTOMERS.name, f"0/{opening(modelled).offset}")
    assert found.exit_code == 2, told(found)
    assert next(step.verdict for step in every(found.way) if step.name == "object") == "unreachable"


def test_the_command_says_the_same_to_people_and_to_programs(modelled: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in modelled.environment.items():
        monkeypatch.setenv(name, value)
    invoke: Callable[..., Any] = CliRunner().invoke
    shown = invoke(app, ["trace", "--table", "dim_customer", "--key", "1"])
    assert shown.exit_code == 0, shown.output
    assert "✓ GOLD.DIM_CUSTOMER  customer_id 1, version 2" in shown.output
    assert "every step holds" in shown.output
    asked = invoke(app, ["trace", "--table", "dim_customer", "--key", "1", "--json"])
    assert json.loads(asked.stdout)["verdict"] == "holds"
    assert invoke(app, ["trace", "--table", "dim_customer", "--key", "77"]).exit_code == 2, "there is no such row"
    with executed(modelled, "GOLD.DIM_CUSTOMER", "UPDATE GOLD.DIM_CUSTOMER SET name = 'Eve' WHERE is_current"):
        tampered = invoke(app, ["trace", "--table", "dim_customer", "--key", "1"])
    assert tampered.exit_code == 1
    assert "it does NOT hold" in tampered.output
    assert "Eve" not in tampered.output, "a trace names columns, never values"


async def test_a_record_that_kafka_no_longer_has_is_said_to_have_expired(modelled: Proof) -> None:
    kafka = settings_of(modelled.environment, KafkaSettings)
    record = opening(modelled)
    async with admin_client(kafka) as admin:
        await admin.delete_records({TopicPartition(record.topic, 0): RecordsToDelete(record.offset + 1)})
    found = await asyncio.to_thread(trace, modelled.environment, record.topic, f"0/{record.offset}")
    assert found.verdict == "holds", told(found)
    assert "expired: Kafka no longer keeps this offset" in told(found)
