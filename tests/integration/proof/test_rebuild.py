"""Tests that a warehouse rebuilt from the lake equals the original, that a killed rebuild continues, and that bad input is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.config.settings import SnowflakeSettings
from app.config.topics import CUSTOMERS
from app.errors import SettingsError
from app.proof.rebuild import RebuildError, contents, rebuild
from sinks.base import ChainKey
from sinks.reading import MissingObjectError
from sinks.sessions import open_reader
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually
from tests.support.warehouse.proof import Proof

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OFFLINE = {"BANKSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "BANKSTREAM_POSTGRES_PORT": "1"}
"""Neither Kafka nor PostgreSQL can be reached, because a rebuild needs neither."""


@pytest.fixture
def target(proof: Proof) -> Iterator[str]:
    name = f"{proof.database}_AGAIN"
    yield name
    proof.execute(f"DROP DATABASE IF EXISTS {name}")


def landed(proof: Proof, database: str) -> dict[str, list[tuple[Any, ...]]]:
    tables = sorted({topic.landing for topic in CATALOGUE.landed if topic.landing})
    return {
        table: sorted(proof.execute(f"SELECT record FROM {database}.BRONZE.{table}"), key=repr)  # noqa: S608 - our own
        for table in tables
    }


def test_the_rebuilt_warehouse_equals_the_original_and_can_be_updated(proof: Proof, target: str) -> None:
    told: list[tuple[int, int]] = []
    report = rebuild(proof.environment | OFFLINE, target, progress=lambda done, total: told.append((done, total)))
    assert report.verdict == "equal", report
    assert landed(proof, target) == landed(proof, proof.database)
    assert sum(table.rows for table in report.tables.values()) == sum(map(len, proof.records.values()))
    assert all(table.equal for table in report.tables.values())
    assert report.objects == sum(map(len, proof.objects.values()))
    assert told[-1][0] == told[-1][1] > 0
    ledger = "SELECT topic, incarnation, log_partition, last_offset, last_object, last_sha256 FROM {}.BRONZE.LAKE_LEDGER ORDER BY 1"
    assert proof.execute(ledger.format(target)) == proof.execute(ledger.format(proof.database))
    again = rebuild(proof.environment | OFFLINE, target)
    assert (again.verdict, again.objects, again.resumed) == ("equal", 0, True)


def test_a_killed_rebuild_continues_where_it_stopped(proof: Proof, target: str) -> None:
    environment = {**os.environ, **proof.environment, **OFFLINE, "BANKSTREAM_WAREHOUSE_MAX_OBJECTS": "1"}
    command = [sys.executable, "-m", "app.cli", "rebuild", "--into", target]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with open_reader(settings_of(proof.environment, SnowflakeSettings, database=target)) as reader:

        def some() -> bool:
            """Whether a part is loaded. The process is stopped during the query, because it could load the rest meanwhile."""
            assert first.poll() is None, "it ended before it could be killed"
            first.send_signal(signal.SIGSTOP)
            try:
                enough = sum(last >= 0 for last in contents.ends(reader).values()) > 2
            except MissingObjectError:
                enough = False  # the ledger does not exist yet
            if not enough:
                first.send_signal(signal.SIGCONT)
            return enough

        try:
            eventually(some, timeout_s=120)
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait(10)
    report = rebuild(proof.environment | OFFLINE, target)
    assert report.resumed
    assert 0 < report.objects < sum(map(len, proof.objects.values()))
    assert report.verdict == "equal", report


def test_a_database_with_other_contents_is_refused(proof: Proof, target: str) -> None:
    with pytest.raises(RebuildError, match="is the warehouse itself"):
        rebuild(proof.environment, proof.database.lower())
    with pytest.raises(SettingsError, match="plain SQL identifier"):
        rebuild(proof.environment, 'X"; DROP DATABASE Y')
    proof.execute(f"CREATE DATABASE {target}")
    proof.execute(f"CREATE SCHEMA {target}.BRONZE")
    proof.execute(f"CREATE TABLE {target}.BRONZE.ALERTS (record VARIANT)")
    proof.execute(f"INSERT INTO {target}.BRONZE.ALERTS SELECT parse_json('{{}}')")
    with pytest.raises(RebuildError, match=r"is not empty: it has table BRONZE.ALERTS"):
        rebuild(proof.environment, target)
    proof.execute(f"DELETE FROM {target}.BRONZE.ALERTS")  # noqa: S608 - our own
    proof.execute(f"CREATE TABLE {target}.BRONZE.NOTES (text VARCHAR)")
    with pytest.raises(RebuildError, match=r"is not empty: it has table BRONZE.NOTES"):
        rebuild(proof.environment, target)
    proof.execute(f"DROP TABLE {target}.BRONZE.NOTES")
    proof.execute(
        f"CREATE TABLE {target}.BRONZE.REBUILD (lake VARCHAR, begun_at TIMESTAMP_NTZ, finished_at TIMESTAMP_NTZ)"
    )
    proof.execute(f"INSERT INTO {target}.BRONZE.REBUILD SELECT 's3://elsewhere', SYSDATE(), NULL")
    with pytest.raises(RebuildError, match="is being rebuilt from s3://elsewhere"):
        rebuild(proof.environment, target)


def test_a_broken_object_stops_its_chain_and_no_other_and_a_changed_row_of_the_first_is_found(
    proof: Proof, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (proof.environment | OFFLINE).items():
        monkeypatch.setenv(name, value)
    s3, where = proof.s3(), proof.stored(proof.objects[CUSTOMERS.name][1].object)
    found = s3.get_object(**where)
    body, metadata = found["Body"].read(), found["Metadata"]
    s3.put_object(**where, Body=body[:-5] + bytes([body[-5] ^ 1]) + body[-4:], Metadata=metadata)
    try:
        broken = CliRunner().invoke(app, ["rebuild", "--into", target, "--json"])
    finally:
        s3.put_object(**where, Body=body, Metadata=metadata)
    assert broken.exit_code == 1
    report = json.loads(broken.stdout)
    assert report["verdict"] == "incomplete"
    [(chain, why)] = report["broken"].items()
    assert chain.startswith(f"{CUSTOMERS.name}/")
    assert "is not the one that was written: its hash differs" in why
    assert report["tables"]["SCD2_CUSTOMERS"]["rows"] == len(proof.records["bank.scd2.customers"])
    proof.execute("UPDATE BRONZE.ALERTS SET record = parse_json(replace(to_json(record), '0', '1'))")
    try:
        different = CliRunner().invoke(app, ["rebuild", "--into", target])
    finally:
        proof.execute("DELETE FROM BRONZE.ALERTS")
        proof.execute(f"INSERT INTO BRONZE.ALERTS SELECT record FROM {target}.BRONZE.ALERTS")  # noqa: S608 - our own
    assert different.exit_code == 1
    assert "NOT equal" in different.output
    assert "ALERTS: bank.alerts/0, offsets" in different.output
    assert different.output.replace("NOT equal", "").count(" equal ") == len(report["tables"]) - 1, (
        "the mended chain is equal, and all but one table"
    )


def test_later_loads_of_the_original_are_left_out_of_the_comparison() -> None:
    old, new, other = ChainKey("a", "1", 0), ChainKey("a", "2", 0), ChainKey("b", "1", 3)
    assert contents.limits({old: 10, other: 7}, {old: 8, other: 9}) == {("a", 0): 8, ("b", 3): 7}
    assert contents.limits({}, {other: 9}) == {("b", 3): -1}
    assert contents.limits({old: 10, new: 3}, {old: 10, new: 3}) == {("a", 0): None}
    with pytest.raises(RebuildError, match="was recreated"):
        contents.limits({old: 10, new: 4}, {old: 10, new: 3})
