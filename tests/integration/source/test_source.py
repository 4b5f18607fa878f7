"""Tests the provisioned source: privileges, migrations, the records of a change in Kafka, and that no secret is exposed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.config.settings import ConnectSettings, EngineSettings, KafkaSettings, SourceSettings
from app.errors import ContinuityError
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.capture.connect import ConnectClient
from app.operations.provision import connector, source, topics
from app.operations.provision.errors import MigrationError, SourceError
from app.operations.provision.migrations import Migration, lock, migrate, shipped
from app.operations.provision.steps import CONNECTOR, SOURCE, TOPICS
from app.topology.partition_groups import groups
from tests.support.bank.cdc_reader import CdcRecord, read_cdc, rows
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import eventually
from tests.support.streams.broker import admin_client

pytestmark = pytest.mark.integration

CUSTOMERS, ACCOUNTS, TRANSACTIONS = (f"bank.public.{table}" for table in ("customers", "accounts", "transactions"))
ROLES = {
    "bank_owner": "owner",
    "bank_app": "",
    "bank_replication": "replication",
    "bank_reader": "reader",
    "postgres": "admin",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with private_stack(Part.POSTGRES, Part.KAFKA, Part.CONNECT, steps=(SOURCE, TOPICS, CONNECTOR)) as running:
        yield running


def connect(stack: Stack, user: str, dbname: str = "bank", **options: Any) -> psycopg.Connection[Any]:
    environment = stack.environment()
    role = f"{ROLES[user].upper()}_" if ROLES[user] else ""
    return psycopg.connect(
        host="127.0.0.1",
        port=environment["BANKSTREAM_POSTGRES_PORT"],
        dbname=dbname,
        user=user,
        password=environment[f"BANKSTREAM_POSTGRES_{role}PASSWORD"],
        **{"autocommit": True, **options},
    )


def scalar(connection: psycopg.Connection[Any], query: Any, *values: Any) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def app(stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with connect(stack, "bank_app") as connection:
        yield connection


@pytest.fixture
def account(app: psycopg.Connection[Any]) -> int:
    customer = scalar(app, "INSERT INTO customers (name, country_code) VALUES ('Ada', 'GB') RETURNING customer_id")
    number = scalar(
        app,
        "INSERT INTO accounts (customer_id, type, currency, balance) VALUES (%s, 'checking', 'EUR', 10) RETURNING account_id",
        customer,
    )
    assert isinstance(number, int)
    return number


def pay(app: psycopg.Connection[Any], account: int, amount: str = "12.50", **columns: Any) -> int:
    values = {"account_id": account, "type": "debit", "amount": amount, "currency": "EUR", "channel": "card"} | columns
    names = ", ".join(values)
    query = f"INSERT INTO transactions ({names}) VALUES ({', '.join(['%s'] * len(values))}) RETURNING transaction_id"  # noqa: S608
    number = scalar(app, query, *values.values())
    assert isinstance(number, int)
    return number


def read(stack: Stack, topic: str, enough: Any) -> list[CdcRecord]:
    return asyncio.run(read_cdc(settings_of(stack, KafkaSettings), [topic], enough))


def has_row(operation: str, column: str, value: object) -> Any:
    return lambda records: any(row[column] == value for row in rows(records, operation))


# -- who may do what ------------------------------------------------------------------------------------------------

INSERT = "INSERT INTO customers (name, country_code) VALUES ('X', 'DE')"
LABEL = (
    "INSERT INTO fraud_labels (transaction_id, pattern, pattern_id, customer_id, account_id, completes) "
    "VALUES (1, 'large_amount', 'p', 1, 1, true)"
)
BEAT = "UPDATE heartbeat SET beat_at = now() WHERE id = 1"
MARK = "UPDATE heartbeat SET marker = 'here' WHERE id = 1"


@pytest.mark.parametrize(
    ("role", "statement", "allowed"),
    [
        ("bank_app", INSERT, True),
        ("bank_app", "UPDATE accounts SET balance = balance", True),
        ("bank_app", "DELETE FROM transactions WHERE transaction_id = -1", True),
        ("bank_app", LABEL, True),
        ("bank_app", MARK, True),
        ("bank_app", "DELETE FROM fraud_labels", False),
        ("bank_app", BEAT, False),
        ("bank_app", "TRUNCATE transactions", False),
        ("bank_app", "ALTER TABLE customers ADD COLUMN x int", False),
        ("bank_app", "CREATE TABLE x (y int)", False),
        ("bank_app", "CREATE TEMPORARY TABLE x (y int)", False),
        ("bank_app", "SELECT * FROM schema_migrations", False),
        ("bank_replication", "SELECT * FROM customers, accounts, transactions, heartbeat LIMIT 1", True),
        ("bank_replication", BEAT, True),
        ("bank_replication", MARK, False),
        ("bank_replication", INSERT, False),
        ("bank_replication", "DELETE FROM accounts", False),
        ("bank_replication", "SELECT * FROM fraud_labels", False),
        ("bank_replication", "ALTER PUBLICATION bank DROP TABLE customers", False),
        ("bank_reader", "SELECT * FROM customers, accounts, transactions, heartbeat, fraud_labels LIMIT 1", True),
        ("bank_reader", "SELECT slot_name, wal_status FROM pg_replication_slots", True),
        ("bank_reader", INSERT, False),
        ("bank_reader", MARK, False),
        ("bank_reader", "SELECT pg_drop_replication_slot('bank')", False),
        ("bank_owner", "CREATE ROLE x", False),
        ("bank_owner", "SELECT rolpassword FROM pg_authid", False),
    ],
)
def test_a_role_has_the_privileges_that_it_needs_and_no_others(
    stack: Stack, role: str, statement: str, allowed: bool
) -> None:
    with connect(stack, role, autocommit=False) as connection:
        try:
            if allowed:
                connection.execute(statement.encode())
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
        finally:
            connection.rollback()


def test_only_the_connectors_role_may_read_the_log(stack: Stack) -> None:
    with connect(stack, "postgres") as admin:
        found = admin.execute("SELECT rolname FROM pg_roles WHERE rolreplication AND rolname LIKE 'bank%'").fetchall()
    assert found == [("bank_replication",)]


def test_another_role_of_the_server_cannot_connect_to_the_database(stack: Stack) -> None:
    with connect(stack, "postgres") as admin:
        admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'let me in'")
    settings = settings_of(stack, SourceSettings)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(host=settings.host, port=settings.port, dbname="bank", user="stranger", password="let me in")


# -- migrations ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(stack: Stack, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """An empty database for this test only, as its owner."""
    name = f"scratch_{abs(hash(request.node.name)):x}"
    with connect(stack, "postgres") as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER bank_owner".encode())
        with connect(stack, "bank_owner", name) as connection:
            yield connection
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_everything_may_be_set_up_again_and_changes_nothing(stack: Stack) -> None:
    def state() -> list[Any]:
        with connect(stack, "bank_owner") as connection:
            return connection.execute(
                "SELECT relname, relacl::text, relreplident FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
            ).fetchall()

    before = state()
    assert source.provision(settings_of(stack, SourceSettings), CATALOGUE) == []
    assert sorted(map(str, state())) == sorted(map(str, before))


def test_without_an_administrator_the_owner_is_enough_once_the_roles_are_there(stack: Stack) -> None:
    settings = settings_of(stack, SourceSettings).model_copy(update={"admin_user": None, "admin_password": None})
    assert source.provision(settings, CATALOGUE) == []


def test_a_missing_role_is_named(stack: Stack) -> None:
    settings = settings_of(stack, SourceSettings).model_copy(update={"admin_user": None, "reader_user": "auditor"})
    with pytest.raises(SourceError, match="no role auditor"):
        source.provision(settings, CATALOGUE)


def test_a_wrong_password_says_which_settings_to_look_at(stack: Stack) -> None:
    settings = settings_of(stack, SourceSettings).model_copy(update={"admin_user": None, "owner_password": None})
    with pytest.raises(SourceError, match="BANKSTREAM_POSTGRES_"):
        source.provision(settings, CATALOGUE)


def test_a_migration_that_changed_after_it_was_applied_is_refused(scratch: psycopg.Connection[Any]) -> None:
    first = Migration(1, "0001_a.sql", "CREATE TABLE a (x int)")
    assert migrate(scratch, [first]) == ["0001_a.sql"]
    changed = Migration(1, "0001_a.sql", "CREATE TABLE a (x bigint)")
    second = Migration(2, "0002_b.sql", "CREATE TABLE b (x int)")
    with pytest.raises(MigrationError, match=r"0001_a\.sql was applied .* changed since"):
        migrate(scratch, [changed, second])
    assert scalar(scratch, "SELECT to_regclass('b')") is None
    assert migrate(scratch, [first, second]) == ["0002_b.sql"]


def test_a_migration_that_fails_is_undone_as_a_whole_and_those_before_it_stay(
    scratch: psycopg.Connection[Any],
) -> None:
    good = Migration(1, "0001_a.sql", "CREATE TABLE a (x int)")
    bad = Migration(2, "0002_b.sql", "CREATE TABLE b (x int); SELECT 1 / 0")
    with pytest.raises(MigrationError, match=r"0002_b\.sql failed .* division by zero"):
        migrate(scratch, [good, bad])
    assert scratch.execute("SELECT to_regclass('a')::text, to_regclass('b')::text").fetchone() == ("a", None)
    assert scratch.execute("SELECT version FROM schema_migrations").fetchall() == [(1,)]


def test_a_database_that_is_ahead_of_the_program_is_left_alone(scratch: psycopg.Connection[Any]) -> None:
    both = [
        Migration(1, "0001_a.sql", "CREATE TABLE a (x int)"),
        Migration(2, "0002_b.sql", "CREATE TABLE b (x int)"),
    ]
    migrate(scratch, both)
    with pytest.raises(MigrationError, match="newer version"):
        migrate(scratch, both[:1])


def test_two_provisioners_take_turns(stack: Stack, scratch: psycopg.Connection[Any]) -> None:
    lock(scratch)
    with connect(stack, "bank_owner", scratch.info.dbname) as other:
        other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT pg_advisory_lock(%s)", [0x62616E6B])


def test_the_shipped_migrations_are_numbered_without_gaps(tmp_path: Path) -> None:
    assert [migration.version for migration in shipped()] == list(range(1, len(shipped()) + 1))
    (tmp_path / "0002_b.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="not numbered"):
        shipped(tmp_path)


def test_a_publication_that_someone_changed_is_noticed(stack: Stack) -> None:
    with connect(stack, "bank_owner") as owner:
        owner.execute("ALTER PUBLICATION bank DROP TABLE heartbeat")
        try:
            with pytest.raises(SourceError, match="ALTER PUBLICATION bank SET TABLE"):
                source.provision(settings_of(stack, SourceSettings), CATALOGUE)
        finally:
            owner.execute("ALTER PUBLICATION bank ADD TABLE heartbeat")


def test_a_table_that_lost_its_full_identity_is_noticed(stack: Stack) -> None:
    with connect(stack, "bank_owner") as owner:
        owner.execute("ALTER TABLE transactions REPLICA IDENTITY DEFAULT")
        try:
            with pytest.raises(SourceError, match="transactions has lost its full replica identity"):
                source.provision(settings_of(stack, SourceSettings), CATALOGUE)
        finally:
            owner.execute("ALTER TABLE transactions REPLICA IDENTITY FULL")


# -- what reaches Kafka ------------------------------------------------------------------------------------------------


def test_a_change_carries_decimals_and_times_as_text(stack: Stack, app: psycopg.Connection[Any], account: int) -> None:
    number = pay(app, account, "9999999999999999.99", latitude="48.137154", booked_at="2026-03-01 10:00:00.5+01")
    found = read(stack, TRANSACTIONS, has_row("c", "transaction_id", number))
    row = next(row for row in rows(found, "c") if row["transaction_id"] == number)
    assert (row["amount"], row["latitude"], row["longitude"]) == ("9999999999999999.99", "48.137154", None)
    assert row["booked_at"] == "2026-03-01T09:00:00.500000Z"


def test_accounts_and_their_transactions_have_the_same_key_and_partition(
    stack: Stack, app: psycopg.Connection[Any], account: int
) -> None:
    number = pay(app, account)
    paid = next(
        record
        for record in read(stack, TRANSACTIONS, has_row("c", "transaction_id", number))
        if (record.value or {}).get("after", {}).get("transaction_id") == number
    )
    opened = next(
        record
        for record in read(stack, ACCOUNTS, has_row("c", "account_id", account))
        if record.key == {"account_id": account}
    )
    assert paid.raw_key == opened.raw_key == f'{{"account_id":{account}}}'.encode()
    assert paid.partition == opened.partition


def test_rolled_back_changes_are_not_captured(stack: Stack, app: psycopg.Connection[Any], account: int) -> None:
    with app.transaction():
        undone = pay(app, account)
        raise psycopg.Rollback
    kept = pay(app, account)
    found = rows(read(stack, TRANSACTIONS, has_row("c", "transaction_id", kept)), "c")
    assert undone not in {row["transaction_id"] for row in found}


def test_a_delete_carries_the_whole_row_and_a_tombstone_follows(
    stack: Stack, app: psycopg.Connection[Any], account: int
) -> None:
    number = pay(app, account, "7.77", device_id="D1", description="gone")
    app.execute("DELETE FROM transactions WHERE transaction_id = %s", [number])

    def ended(records: list[CdcRecord]) -> bool:
        mine = [record for record in records if record.key == {"account_id": account}]
        return bool(mine) and mine[-1].raw_value is None

    mine = [r for r in read(stack, TRANSACTIONS, ended) if r.key == {"account_id": account}]
    assert [record.value and record.value["op"] for record in mine] == ["c", "d", None]
    before = mine[1].value["before"]
    assert before == mine[0].value["after"]
    assert (before["amount"], before["device_id"], before["description"]) == ("7.77", "D1", "gone")


def test_a_transaction_that_changes_account_is_deleted_under_the_old_key_and_created_under_the_new(
    stack: Stack, app: psycopg.Connection[Any], account: int
) -> None:
    other = scalar(
        app,
        "INSERT INTO accounts (customer_id, type, currency) SELECT customer_id, 'savings', 'EUR' FROM accounts WHERE account_id = %s "
        "RETURNING account_id",
        account,
    )
    number = pay(app, account)
    app.execute("UPDATE transactions SET account_id = %s WHERE transaction_id = %s", [other, number])

    def of(records: list[CdcRecord], key: int) -> list[Any]:
        return [r.value and r.value["op"] for r in records if r.key == {"account_id": key}]

    def moved(records: list[CdcRecord]) -> bool:
        """Whether all records of the move have been read. Either key's partition may come first. The tombstone ends the old key."""
        return None in of(records, account) and bool(of(records, other))

    found = read(stack, TRANSACTIONS, moved)
    assert of(found, account) == ["c", "d", None]
    assert of(found, other) == ["c"]


def test_the_heartbeat_moves_the_slot_past_changes_of_tables_that_are_not_captured(stack: Stack) -> None:
    with connect(stack, "bank_app") as app, connect(stack, "bank_reader") as reader:
        app.execute(LABEL)
        position = scalar(reader, "SELECT pg_current_wal_lsn()")
        query = "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'bank'"
        eventually(lambda: scalar(reader, query, position), timeout_s=60, message="the slot did not advance")


def test_a_truncate_has_no_key(stack: Stack, app: psycopg.Connection[Any], account: int) -> None:
    pay(app, account)
    with connect(stack, "bank_owner") as owner:
        owner.execute("TRUNCATE transactions")

    def truncated(records: list[CdcRecord]) -> bool:
        return any(record.value and record.value.get("op") == "t" for record in records)

    found = read(stack, TRANSACTIONS, truncated)
    event = next(record for record in found if record.value and record.value.get("op") == "t")
    assert event.raw_key is None
    assert (event.value["before"], event.value["after"]) == (None, None)


# -- connector and topics ----------------------------------------------------------------------------------------------


def test_the_connector_is_configured_once_and_corrected_after_a_change(stack: Stack) -> None:
    settings, database = settings_of(stack, ConnectSettings), settings_of(stack, SourceSettings)
    assert connector.provision(settings, database, CATALOGUE) is False
    with ConnectClient(settings) as client:
        client.put({**connector.configuration(CATALOGUE), "poll.interval.ms": "500"}, deadline=0)
        assert connector.provision(settings, database, CATALOGUE) is True
        assert client.configuration() == {**connector.configuration(CATALOGUE), "name": "bank"}


def test_no_password_is_in_the_stored_connector_or_in_a_log(stack: Stack) -> None:
    environment = stack.environment()
    passwords = [value for name, value in environment.items() if name.endswith("PASSWORD")]
    with connect(stack, "postgres") as admin:
        admin.execute("ALTER SYSTEM SET log_statement = 'all'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            source.provision(settings_of(stack, SourceSettings), CATALOGUE)
        finally:
            admin.execute("ALTER SYSTEM RESET log_statement")
            admin.execute("SELECT pg_reload_conf()")
    stored = asyncio.run(
        read_cdc(settings_of(stack, KafkaSettings), ["bank.connect.configs"], lambda records: len(records) > 1)
    )
    places = {path.name: path.read_text(errors="replace") for path in stack.home.logs.iterdir()}
    places["configs"] = json.dumps([record.value for record in stored])
    assert "ALTER ROLE" in places["postgres.log"]
    assert "BANKSTREAM_CONNECTOR_DATABASE_PASSWORD" in places["configs"]
    assert [name for name, text in places.items() for password in passwords if password in text] == []


async def test_topics_have_the_policies_of_the_catalogue_and_changelogs_those_of_their_tables(
    stack: Stack,
) -> None:
    kafka, engine = settings_of(stack, KafkaSettings), settings_of(stack, EngineSettings)
    specs = topics.specs(CATALOGUE, groups(CATALOGUE, kafka), kafka, engine)
    async with admin_client(kafka) as admin:
        replies = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, s.name) for s in specs])
    found = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]} for reply in replies for resource in reply.resources
    }
    for spec in specs:
        assert {name: found[spec.name][name] for name in spec.config} == spec.config, spec.name
    policies = {name: values["cleanup.policy"] for name, values in found.items() if name.endswith("-changelog")}
    assert policies["bankstream-streams-by-account-accounts-changelog"] == "compact"
    assert policies["bankstream-streams-by-customer-velocity-changelog"] == "delete"


async def test_another_partition_count_than_the_topics_have_is_refused(stack: Stack) -> None:
    kafka = settings_of(stack, KafkaSettings).model_copy(update={"partitions": 7})
    with pytest.raises(ContinuityError, match="BANKSTREAM_TOPIC_PARTITIONS"):
        await topics.provision(CATALOGUE, groups(CATALOGUE, kafka), kafka, settings_of(stack, EngineSettings))
