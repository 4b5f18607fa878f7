"""Tests the guarantees of the local warehouse that the loader and dbt need."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import snowflake.connector
import zstandard
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import DatabaseError, ProgrammingError

from app.config.settings import S3Settings, SnowflakeSettings
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from tests.support.machine.clients import s3_client
from tests.support.machine.stack import StackPool, private_stack, settings_of
from tests.support.machine.waiting import eventually

pytestmark = pytest.mark.integration

BUCKET = "warehouse-test"


@pytest.fixture(scope="module")
def stack(stack_pool: StackPool) -> Stack:
    return stack_pool.get(Part.S3, Part.WAREHOUSE)


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Any:
    client = s3_client(settings_of(stack, S3Settings))
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def database(stack: Stack) -> Iterator[str]:
    name = f"T{uuid4().hex[:12].upper()}"
    with connect(stack) as connection:
        run(connection, f"CREATE DATABASE {name}")
        run(connection, f"CREATE SCHEMA {name}.BRONZE")
        run(connection, f"CREATE STAGE {name}.BRONZE.LAKE URL = 's3://{BUCKET}/{name}/' FILE_FORMAT = (TYPE = JSON)")
        run(connection, f"CREATE TABLE {name}.BRONZE.EVENTS (record VARIANT)")
        run(connection, f"CREATE TABLE {name}.BRONZE.LEDGER (part INTEGER, last_offset INTEGER)")
        run(connection, f"INSERT INTO {name}.BRONZE.LEDGER VALUES (0, -1)")  # noqa: S608 - our own name
    yield name
    with connect(stack) as connection:
        run(connection, f"DROP DATABASE {name}")


def connect(stack: Stack, database: str | None = None, **changes: Any) -> SnowflakeConnection:
    found = settings_of(stack, SnowflakeSettings)
    assert found.password is not None
    arguments: dict[str, Any] = {
        "user": found.user,
        "password": found.password.get_secret_value(),
        "account": found.account,
        "host": found.host,
        "port": found.port,
        "protocol": found.protocol,
        "database": database,
        "schema": "BRONZE" if database else None,
        "network_timeout": 20,
        "login_timeout": 10,
        "session_parameters": {"CLIENT_TELEMETRY_ENABLED": False},
    }
    return snowflake.connector.connect(**(arguments | changes))


def run(connection: SnowflakeConnection, sql: str) -> Any:
    return connection.cursor().execute(sql)


def rows(connection: SnowflakeConnection, sql: str) -> list[Any]:
    return list(run(connection, sql).fetchall())


def put(client: Any, database: str, name: str, first: int, count: int) -> str:
    lines = [
        json.dumps({"offset": n, "value": {"amount": "1.50", "note": "é'\"\n"}}) for n in range(first, first + count)
    ]
    body = zstandard.compress("\n".join([*lines, ""]).encode())
    client.put_object(Bucket=BUCKET, Key=f"{database}/{name}", Body=body)
    return name


def copy(connection: SnowflakeConnection, *names: str, table: str = "EVENTS") -> Any:
    files = ", ".join(f"'{name}'" for name in names)
    return run(connection, f"COPY INTO BRONZE.{table} FROM @BRONZE.LAKE FILES = ({files}) FILE_FORMAT = (TYPE = JSON)")


def advance(connection: SnowflakeConnection, last: int, previous: int) -> int | None:
    sql = f"UPDATE BRONZE.LEDGER SET last_offset = {last} WHERE part = 0 AND last_offset = {previous}"  # noqa: S608
    rowcount: int | None = run(connection, sql).rowcount
    return rowcount


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"user": "someone"}, {"password": ""}])
def test_a_login_without_the_right_user_and_password_is_refused(stack: Stack, changes: dict[str, str]) -> None:
    with pytest.raises((DatabaseError, ProgrammingError)):
        connect(stack, **changes)


def test_files_and_ledger_move_in_one_transaction(stack: Stack, bucket: Any, database: str) -> None:
    put(bucket, database, "0/0.ndjson.zst", 0, 1_000)
    put(bucket, database, "0/1000.ndjson.zst", 1_000, 500)
    with connect(stack, database) as loader, connect(stack, database) as reader:
        run(loader, "BEGIN")
        loaded = copy(loader, "0/0.ndjson.zst", "0/1000.ndjson.zst").fetchall()
        assert [(row[1], row[3]) for row in loaded] == [("LOADED", 1_000), ("LOADED", 500)]
        assert advance(loader, 1_499, -1) == 1
        assert rows(reader, "SELECT count(*) FROM BRONZE.EVENTS") == [(0,)], "not visible before COMMIT"
        run(loader, "COMMIT")
        assert rows(reader, "SELECT count(*), max(record:offset::int) FROM BRONZE.EVENTS") == [(1_500, 1_499)]
        assert rows(reader, "SELECT record:value:note::varchar FROM BRONZE.EVENTS LIMIT 1") == [("é'\"\n",)]
        assert advance(reader, 5, -1) == 0, "the ledger has moved on"


def test_a_rollback_undoes_files_and_ledger(stack: Stack, bucket: Any, database: str) -> None:
    put(bucket, database, "a.ndjson.zst", 0, 10)
    with connect(stack, database) as loader:
        run(loader, "BEGIN")
        copy(loader, "a.ndjson.zst")
        advance(loader, 9, -1)
        run(loader, "ROLLBACK")
        assert rows(loader, "SELECT count(*) FROM BRONZE.EVENTS") == [(0,)]
        assert rows(loader, "SELECT last_offset FROM BRONZE.LEDGER") == [(-1,)]
        assert copy(loader, "a.ndjson.zst").fetchall()[0][1] == "LOADED", "the load history was undone too"


def test_a_file_is_loaded_once(stack: Stack, bucket: Any, database: str) -> None:
    put(bucket, database, "a.ndjson.zst", 0, 10)
    with connect(stack, database) as loader:
        copy(loader, "a.ndjson.zst")
        assert copy(loader, "a.ndjson.zst").fetchall()[0][1] == "LOAD_SKIPPED"
        assert rows(loader, "SELECT count(*) FROM BRONZE.EVENTS") == [(10,)]


@pytest.mark.parametrize(
    ("name", "body", "errno"),
    [
        ("missing.ndjson.zst", None, 91016),
        ("damaged.ndjson.zst", b"not zstd", 100016),
        ("text.ndjson", b'{"a":1}\n{broken\n', 100038),
    ],
)
def test_a_file_that_cannot_be_loaded_fails_the_statement_at_once(
    stack: Stack, bucket: Any, database: str, *, name: str, body: bytes | None, errno: int
) -> None:
    if body is not None:
        bucket.put_object(Bucket=BUCKET, Key=f"{database}/{name}", Body=body)
    with connect(stack, database) as loader:
        run(loader, "BEGIN")
        with pytest.raises(ProgrammingError) as error:
            copy(loader, name)
        assert error.value.errno == errno
        run(loader, "ROLLBACK")
        assert rows(loader, "SELECT count(*) FROM BRONZE.EVENTS") == [(0,)]


def test_two_loaders_cannot_both_advance_the_ledger(stack: Stack, database: str) -> None:
    with connect(stack, database) as first, connect(stack, database) as second:
        run(first, "BEGIN")
        run(second, "BEGIN")
        assert advance(first, 9, -1) == 1
        with pytest.raises(ProgrammingError) as error:
            advance(second, 9, -1)
        assert error.value.errno == 625
        run(second, "ROLLBACK")
        run(first, "COMMIT")
        assert advance(second, 9, -1) == 0


def test_the_transaction_of_a_killed_client_does_not_block_its_successor(stack: Stack, database: str) -> None:
    code = (
        "import sys, json, signal, snowflake.connector\n"
        "c = snowflake.connector.connect(**json.load(sys.stdin))\n"
        "c.cursor().execute('BEGIN')\n"
        "c.cursor().execute('UPDATE BRONZE.LEDGER SET last_offset = 77')\n"
        "print('holding', flush=True)\n"
        "signal.pause()\n"
    )
    found = settings_of(stack, SnowflakeSettings)
    assert found.password is not None
    arguments = {
        "user": found.user, "password": found.password.get_secret_value(), "account": found.account, "host": found.host,
        "port": found.port, "protocol": found.protocol, "database": database, "schema": "BRONZE",
    }  # fmt: skip
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(json.dumps(arguments))
        holder.stdin.close()
        assert holder.stdout.readline() == "holding\n"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with connect(stack, database) as successor:

        def advanced() -> bool:
            try:
                return advance(successor, 9, -1) == 1
            except ProgrammingError:
                return False

        eventually(advanced, timeout_s=5)


def test_merge_is_atomic_counts_and_refuses_duplicates(stack: Stack, database: str) -> None:
    with connect(stack, database) as connection:
        run(connection, "CREATE TABLE BRONZE.D (k INTEGER, v VARCHAR)")
        run(connection, "INSERT INTO BRONZE.D VALUES (1, 'a'), (2, 'b')")
        merge = (
            "MERGE INTO BRONZE.D AS t USING (SELECT column1 AS k, column2 AS v FROM VALUES {}) AS s ON t.k = s.k "
            "WHEN MATCHED THEN UPDATE SET t.v = s.v WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v)"
        )
        cursor = run(connection, merge.format("(2, 'B'), (3, 'c')"))
        assert cursor.fetchall() == [(1, 1)]
        assert rows(connection, "SELECT * FROM BRONZE.D ORDER BY k") == [(1, "a"), (2, "B"), (3, "c")]
        with pytest.raises(ProgrammingError) as error:
            run(connection, merge.format("(2, 'x'), (2, 'y')"))
        assert error.value.errno == 100090
        assert rows(connection, "SELECT * FROM BRONZE.D ORDER BY k") == [(1, "a"), (2, "B"), (3, "c")]


def test_null_timestamps_stay_null(stack: Stack, database: str) -> None:
    with connect(stack, database) as connection:
        sql = "SELECT column1::timestamp_ntz, column1::timestamp_tz FROM VALUES (NULL), ('2026-01-02 03:04:05.678901')"
        (empty, full) = rows(connection, sql)
        assert empty == (None, None)
        assert full[0].isoformat() == "2026-01-02T03:04:05.678901"
        assert full[1].isoformat() == "2026-01-02T03:04:05.678901+00:00"


def test_a_temporary_table_may_have_a_qualified_name(stack: Stack, database: str) -> None:
    with connect(stack, database) as connection:
        run(connection, f'/* dbt */ create or replace temporary table "{database}".BRONZE.D__tmp as (select 1 as n)')
        assert rows(connection, "SELECT n FROM BRONZE.D__tmp") == [(1,)]


def test_views_are_among_the_tables_of_the_information_schema(stack: Stack, database: str) -> None:
    with connect(stack, database) as connection:
        run(connection, "CREATE VIEW BRONZE.SEEN AS SELECT record FROM BRONZE.EVENTS")
        found = rows(
            connection,
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'BRONZE' ORDER BY 1",
        )
        assert found == [("EVENTS", "BASE TABLE"), ("LEDGER", "BASE TABLE"), ("SEEN", "VIEW")]


def test_an_unknown_function_is_an_error_of_the_statement_at_once(stack: Stack, database: str) -> None:
    with connect(stack, database) as connection, pytest.raises(DatabaseError):
        run(connection, "SELECT no_such_function(1)")


@pytest.mark.slow
def test_everything_committed_survives_a_kill_and_stages_too() -> None:
    with private_stack(Part.S3, Part.WAREHOUSE) as own:
        client = s3_client(settings_of(own, S3Settings))
        client.create_bucket(Bucket=BUCKET)
        put(client, "D", "a.ndjson.zst", 0, 100)
        put(client, "D", "b.ndjson.zst", 100, 100)
        with connect(own) as connection:
            run(connection, "CREATE DATABASE D")
            run(connection, "CREATE SCHEMA D.BRONZE")
            run(connection, f"CREATE STAGE D.BRONZE.LAKE URL = 's3://{BUCKET}/D/'")
            run(connection, "CREATE TABLE D.BRONZE.EVENTS (record VARIANT)")
        with connect(own, "D") as connection:
            copy(connection, "a.ndjson.zst")
        killed = own.pid("warehouse")
        own.kill("warehouse")
        eventually(lambda: own.pid("warehouse") not in (None, killed), timeout_s=10)
        own.wait_ready("warehouse")
        with connect(own, "D") as connection:
            assert rows(connection, "SELECT count(*) FROM BRONZE.EVENTS") == [(100,)]
            assert copy(connection, "b.ndjson.zst").fetchall()[0][1] == "LOADED"
        own.restart("warehouse")
        with connect(own) as connection:
            assert rows(connection, "SELECT count(*) FROM D.BRONZE.EVENTS") == [(200,)]
