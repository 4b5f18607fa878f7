"""Tests declared tables from end to end: silver, trace and doctor treat them like the bank's own tables.

Real parts, a worker of each kind, and the models as `bankstream provision models` makes them.
"""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from app.config.captured_tables import load_tables
from app.config.settings import KafkaSettings, SnowflakeSettings, SourceSettings
from app.engine.kafka import connection
from app.local.stack.part import BACKENDS
from app.operations.dbt.build import PROJECT, build
from app.operations.doctor import examine
from app.postgres import as_reader
from app.postgres.catalogue import source_tables
from app.proof.trace import TraceError, trace
from sinks.sessions import open_reader
from tests.support.bank.evolving import Bank, declared_bank
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually
from tests.support.warehouse.bank_columns import BANK_COLUMNS, bank_columns

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

DECLARED = """
[loans]
key = { branch = "text", number = "integer" }
untracked = ["hits"]

[mandates]
key = { mandate_id = "text" }

[holidays]
key = { country = "text", day = "text" }
versions = false
"""
TABLES = (
    "CREATE DOMAIN share AS numeric(9, 6)",
    "CREATE TYPE mood AS ENUM ('good', 'bad')",
    """CREATE TABLE loans (
        branch text, number bigint, principal numeric(18, 2), rate share, exact numeric, due date, signed_at timestamptz(3),
        local_at timestamp, "order" int, open boolean, score double precision, terms jsonb, tags text[], kind mood, flag bit(1),
        "Größe" text, hits int NOT NULL DEFAULT 0,
        PRIMARY KEY (branch, number)
    )""",
    "CREATE TABLE mandates (mandate_id uuid PRIMARY KEY, creditor text)",
    "CREATE TABLE holidays (country char(2), day date, name text, PRIMARY KEY (country, day))",
    """INSERT INTO loans (
            branch, number, principal, rate, exact, due, signed_at, local_at, "order", open, score, terms, tags, kind, flag, "Größe"
        )
        VALUES ('Zürich, HB', 1, 1000.10, 0.012345, 1.2300, '2030-01-31', '2026-03-02 10:00:00.123+01', '2026-03-02 10:00', 7, true,
            0.1, '{"b": 1, "a": [true]}', '{x,"y z"}', 'good', B'1', 'groß'),
        ('Zürich, HB', 2, NULL, NULL, NULL, NULL, 'infinity', NULL, NULL, NULL, 'NaN', NULL, NULL, NULL, NULL, NULL),
        ('Bern', 1, 3, 0, 0, '2027-01-01', now(), now(), 0, false, 1e300, '[]', '{}', 'bad', B'0', '')""",
    "INSERT INTO mandates VALUES ('00000000-0000-0000-0000-000000000001', 'Gas'), ('00000000-0000-0000-0000-000000000002', 'Water')",
    "INSERT INTO holidays VALUES ('CH', '2026-08-01', 'Bundesfeier'), ('GB', '2026-08-01', NULL)",
    "INSERT INTO customers (name, country_code) VALUES ('Ada', 'GB')",
)
CHANGES = (
    "UPDATE loans SET principal = 900.10 WHERE branch = 'Zürich, HB' AND number = 1",
    "UPDATE loans SET hits = hits + 1 WHERE branch = 'Zürich, HB' AND number = 2",
    "UPDATE loans SET number = 5 WHERE branch = 'Bern'",
    "UPDATE mandates SET creditor = 'Power' WHERE mandate_id = '00000000-0000-0000-0000-000000000001'",
    "DELETE FROM mandates WHERE mandate_id = '00000000-0000-0000-0000-000000000002'",
    "DELETE FROM holidays WHERE country = 'GB'",
    "INSERT INTO holidays VALUES ('GB', '2026-12-25', 'Christmas')",
)
POISON = b'{"op":"c","before":null,"after":{"branch":7,"number":1},"source":{"lsn":1,"txId":1,"ts_ms":1772442000000}}'
"""A key with a number for the text column `branch`. The streams worker refuses it."""
LANDED = {
    "loans": 3 + 4 + 1,
    "mandates": 2 + 2,
    "holidays": 2 + 2,
    "SCD2_LOANS": 3 + 2 + 2,
    "SCD2_MANDATES": 2 + 2 + 1,
    "DEAD_LETTERS": 1,
}
"""Changes of rows by table, and records by landing table. A changed key is a delete and an insert."""


async def poison(kafka: KafkaSettings) -> None:
    """A change of a loan whose key cannot be read."""
    producer = AIOKafkaProducer(**connection(kafka))
    await producer.start()
    try:
        await producer.send_and_wait("bank.public.loans", key=b'{"branch":7,"number":1}', value=POISON)
    finally:
        await producer.stop()


@dataclass
class Declared:
    """The bank, and a dbt project with the models of its tables."""

    bank: Bank
    project: Path

    def warehouse(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement and returns its rows."""
        with open_reader(settings_of(self.bank.environment, SnowflakeSettings)) as reader:
            return [tuple(row) for row in reader.rows(statement)]

    def doctor(self) -> set[tuple[str, str]]:
        """The doctor's findings: codes and subjects."""
        report = asyncio.run(examine(self.bank.environment))
        assert not [outcome for outcome in report.outcomes if outcome.could_not], report
        return {(finding.code, finding.subject) for finding in report.findings}

    def landed(self) -> dict[str, int]:
        """The number of changes and versions of each table in the warehouse."""
        self.bank.workers.check()
        counts = {
            topic.removeprefix("bank.public."): count
            for topic, count in self.warehouse(
                "SELECT record:topic::varchar, count(*) FROM BRONZE.CDC_EVENTS WHERE NOT is_null_value(record:value) GROUP BY 1"
            )
        }
        for table in ("SCD2_LOANS", "SCD2_MANDATES", "DEAD_LETTERS"):
            [(counts[table],)] = self.warehouse(f"SELECT count(*) FROM BRONZE.{table}")  # noqa: S608
        return {name: count for name, count in counts.items() if name in LANDED}


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Declared]:
    home = tmp_path_factory.mktemp("declared")
    with declared_bank(
        home, DECLARED, *TABLES, parts=BACKENDS, kinds=("streams", "lake", "warehouse"), steps=("all",)
    ) as bank:  # fmt: skip
        project = home / "dbt"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
        bank.bankstream("provision", "models", "--project", str(project))
        bank.execute(*CHANGES)
        asyncio.run(poison(settings_of(bank.environment, KafkaSettings)))
        made = Declared(bank, project)
        eventually(lambda: made.landed() == LANDED, timeout_s=180)
        yield made


def test_the_models_build_and_every_test_of_them_passes(declared: Declared) -> None:
    result = build(declared.bank.environment, project=declared.project, settle_seconds=0)
    assert result.problems == ()
    assert result.ok
    loans = declared.warehouse(
        "SELECT branch, number, principal, rate, exact, due, signed_at, local_at, order_, open, score, terms, tags, kind, flag, hits "
        "FROM SILVER.LOANS ORDER BY branch, number"
    )
    assert loans[1][:-1] == (
        "Zürich, HB", 1, Decimal("900.10"), Decimal("0.012345"), "1.2300", date(2030, 1, 31),
        datetime(2026, 3, 2, 9, 0, 0, 123_000), datetime(2026, 3, 2, 10, 0), 7, True, 0.1, '{"a": [true], "b": 1}',  # noqa: DTZ001
        '["x","y z"]', "good", True,
    )  # fmt: skip
    assert [row[:2] for row in loans] == [("Bern", 5), ("Zürich, HB", 1), ("Zürich, HB", 2)]
    assert (loans[2][-1], loans[2][6]) == (1, None), "an untracked column is current; infinity is no instant"
    assert declared.warehouse("SELECT mandate_id, creditor FROM SILVER.MANDATES") == [
        ("00000000-0000-0000-0000-000000000001", "Power")
    ]
    assert declared.warehouse("SELECT country, day, name FROM SILVER.HOLIDAYS ORDER BY country") == [
        ("CH", date(2026, 8, 1), "Bundesfeier"), ("GB", date(2026, 12, 25), "Christmas"),
    ]  # fmt: skip
    [(refused,)] = declared.warehouse("SELECT count(*) FROM SILVER.LOANS_CHANGES WHERE source_lsn = 1")
    assert refused == 0, "what the streams refused is no change here"
    records = declared.warehouse(
        "SELECT branch, number, operation, reason FROM SILVER.LOANS_VERSION_RECORDS ORDER BY branch, number, valid_from, operation DESC"
    )
    assert records == [
        ("Bern", 1, "open", "created"), ("Bern", 1, "close", "key_changed"), ("Bern", 5, "open", "key_changed"),
        ("Zürich, HB", 1, "open", "created"), ("Zürich, HB", 1, "close", "superseded"), ("Zürich, HB", 1, "open", "updated"),
        ("Zürich, HB", 2, "open", "created"),
    ]  # fmt: skip


def test_generating_the_models_again_gives_the_same_text(declared: Declared) -> None:
    before = {file: file.read_bytes() for file in declared.project.rglob("*.*ml") if "models" in file.parts}
    declared.bank.bankstream("provision", "models", "--project", str(declared.project))
    assert {file: file.read_bytes() for file in before} == before
    assert (declared.project / "models/silver/mandates_version_records.sql").is_file()


def test_the_catalogue_of_the_source_has_the_keys_and_columns_of_the_banks_tables(declared: Declared) -> None:
    tables = load_tables(declared.bank.tables_file)
    with as_reader(settings_of(declared.bank.environment, SourceSettings)) as session:
        found = source_tables(session, [*(table.name for table in tables), "nowhere"])
    assert {table.name: [*table.key.items()] for table in tables} == {
        name: [*table.key.items()] for name, table in found.items()
    }
    assert {name: found[name].columns for name in BANK_COLUMNS} == {name: bank_columns(name) for name in BANK_COLUMNS}


def test_a_table_whose_changes_postgresql_would_refuse_is_not_captured(declared: Declared) -> None:
    declared.bank.execute(
        "ALTER TABLE mandates ADD COLUMN twice text GENERATED ALWAYS AS (creditor || creditor) STORED"
    )
    refused = declared.bank.run("provision", "source")
    assert refused.returncode == 1
    assert "table mandates has the generated columns twice" in " ".join(refused.stderr.split())
    declared.bank.execute("ALTER PUBLICATION bank SET (publish_generated_columns = stored)")
    declared.bank.bankstream("provision", "source")
    declared.bank.execute(
        "UPDATE mandates SET creditor = creditor",
        "ALTER TABLE mandates DROP COLUMN twice",
        "ALTER PUBLICATION bank SET (publish_generated_columns = none)",
    )


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("loans", '["Zürich, HB", 1]'),
        ("loans", '["Zürich, HB", 2]'),
        ("loans", "branch=Bern,number=5"),
        ("mandates", "00000000-0000-0000-0000-000000000001"),
        ("holidays", "country=GB,day=2026-12-25"),
    ],
)
def test_a_row_is_traced_to_the_log(declared: Declared, table: str, key: str) -> None:
    found = trace(declared.bank.environment, table, key)
    assert found.verdict == "holds", found
    assert found.way.name == f"SILVER.{table.upper()}"
    assert any("columns equal their source values" in check.what for check in found.way.checks)


def test_the_records_of_versions_are_traced_to_the_log(declared: Declared) -> None:
    for table in ("loans", "mandates"):
        [(partition, offset)] = declared.warehouse(
            f"SELECT record_partition, record_offset FROM SILVER.{table.upper()}_VERSION_RECORDS "  # noqa: S608
            "WHERE operation = 'close' LIMIT 1"
        )
        found = trace(declared.bank.environment, f"bank.scd2.{table}", f"{partition}/{offset}")
        assert found.verdict == "holds", found


def test_a_row_that_was_changed_in_the_warehouse_is_found_by_its_trace(declared: Declared) -> None:
    declared.warehouse("UPDATE SILVER.LOANS SET principal = 1 WHERE number = 5")
    done = declared.bank.run("trace", "--table", "loans", "--key", "branch=Bern,number=5", "--json")
    assert done.returncode == 1
    assert "principal" in done.stdout
    with pytest.raises(TraceError, match=r"SILVER.LOANS has no row with branch, number branch=Bern,number=77"):
        trace(declared.bank.environment, "loans", "branch=Bern,number=77")


def test_doctor_finds_nothing_and_then_what_is_broken(declared: Declared) -> None:
    eventually(lambda: declared.doctor() == set(), timeout_s=120)
    breaks: dict[str, tuple[str, str, str]] = {
        "ALTER PUBLICATION bank DROP TABLE loans": ("publication-tables", "bank", "ALTER PUBLICATION bank ADD TABLE loans"),
        "ALTER TABLE mandates REPLICA IDENTITY DEFAULT": (
            "replica-identity", "mandates", "ALTER TABLE mandates REPLICA IDENTITY FULL",
        ),
        "REVOKE SELECT ON loans FROM bank_replication": (
            "privilege-missing", "bank_replication", "GRANT SELECT ON loans TO bank_replication",
        ),
        "ALTER TABLE holidays DROP CONSTRAINT holidays_pkey": (
            "primary-key", "holidays", "ALTER TABLE holidays ADD PRIMARY KEY (country, day)",
        ),
    }  # fmt: skip
    for statement, (code, subject, cure) in breaks.items():
        declared.bank.execute(statement)
        assert declared.doctor() == {(code, subject)}, statement
        declared.bank.execute(cure)
    declared.warehouse("ALTER TABLE BRONZE.SCD2_MANDATES RENAME TO BRONZE.SCD2_MANDATES_AWAY")
    assert ("warehouse-table", "SCD2_MANDATES") in declared.doctor()
    declared.warehouse("ALTER TABLE BRONZE.SCD2_MANDATES_AWAY RENAME TO BRONZE.SCD2_MANDATES")
    assert declared.doctor() == set()


def test_doctor_finds_workers_that_do_not_know_a_table_that_was_declared_since(declared: Declared) -> None:
    file = declared.bank.tables_file
    file.write_text(file.read_text(encoding="utf-8") + '\n[late]\nkey = { id = "integer" }\n', encoding="utf-8")
    declared.bank.execute("CREATE TABLE late (id int PRIMARY KEY)")
    declared.bank.bankstream("provision", "all")
    declared.bank.execute("INSERT INTO late VALUES (1)")
    eventually(lambda: declared.doctor() == {("topic-unread", "bank.public.late")}, timeout_s=120)
