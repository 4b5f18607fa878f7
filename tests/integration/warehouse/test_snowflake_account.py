"""Tests the sinks on a real Snowflake account: `BANKSTREAM_TEST_SNOWFLAKE=FILE make test ARGS="-m snowflake"`.

FILE has lines of KEY=value: BANKSTREAM_SNOWFLAKE_ACCOUNT, _USER, _ROLE, _WAREHOUSE, _PRIVATE_KEY_PATH, _STORAGE_INTEGRATION and
BANKSTREAM_S3_BUCKET with the keys that write to it. The role must be one that may CREATE DATABASE and use the integration: a database with
a random name is made, and dropped at the end; objects stay in a folder of the bucket with that name.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from app.config.settings import S3Settings, SnowflakeSettings, WarehouseSettings, read
from app.operations.provision import warehouse
from sinks.base import LedgerConflictError, LedgerRow, LoadStep
from sinks.sessions import open_reader
from sinks.snowflake import SnowflakeWarehouse
from sinks.snowpipe_client import SnowpipeClient
from sinks.snowpipe_streaming import StreamingWarehouse, channel_name, pipe_name
from tests.support.catalogue import CATALOGUE
from tests.support.machine.waiting import until
from tests.support.warehouse.real_sinks import Database, real_world
from tests.support.warehouse.sinks import LANDING, TABLES, SinkEnvironment, chain_key, load_all, offsets, write

FILE = "BANKSTREAM_TEST_SNOWFLAKE"
NEEDED = (
    "BANKSTREAM_SNOWFLAKE_ACCOUNT",
    "BANKSTREAM_SNOWFLAKE_PRIVATE_KEY_PATH",
    "BANKSTREAM_SNOWFLAKE_STORAGE_INTEGRATION",
    "BANKSTREAM_S3_BUCKET",
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.snowflake,
    pytest.mark.skipif(FILE not in os.environ, reason=f"{FILE} names no file with the settings of an account"),
]


@pytest.fixture(scope="module")
def account() -> Iterator[Database]:
    lines = Path(os.environ[FILE]).read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    assert [name for name in NEEDED if name not in given] == []
    name = f"BANKSTREAM_TEST_{uuid4().hex[:12].upper()}"
    sql = read(SnowflakeSettings, given | {"BANKSTREAM_SNOWFLAKE_DATABASE": name})
    s3 = read(S3Settings, given | {"BANKSTREAM_S3_PREFIX": name})
    warehouse.provision(sql, s3, CATALOGUE)
    made = Database(s3, sql, open_reader(sql))
    try:
        for table in TABLES.values():
            made.execute(
                f"CREATE PIPE {name}.BRONZE.{pipe_name(table)} AS COPY INTO {name}.BRONZE.{table} (record) "  # noqa: S608 - our own
                "FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')))"
            )
        yield made
    finally:
        made.execute(f"DROP DATABASE {name}")
        made.session.close()


@asynccontextmanager
async def streaming(world: SinkEnvironment, account: Database) -> AsyncIterator[StreamingWarehouse]:
    made = StreamingWarehouse(
        SnowpipeClient(account.sql),
        SnowflakeWarehouse(account.sql),
        world.store,
        TABLES,
        WarehouseSettings(streaming_request_bytes=300, streaming_ledger_interval_ms=0),
    )
    try:
        yield made
    finally:
        await made.close()


async def test_objects_are_loaded_once_by_copy(account: Database) -> None:
    async with real_world(account) as world:
        objects = await write(world, *range(10), rows=3)
        await load_all(world.loader(), 9)
        with pytest.raises(LedgerConflictError):
            await world.warehouse.load([LoadStep(chain_key(), LedgerRow(), objects, LANDING)])
        assert offsets(world.rows(LANDING)) == [*range(10)]


async def test_objects_are_loaded_once_by_channels(account: Database) -> None:
    async with real_world(account) as world, streaming(world, account) as one, streaming(world, account) as other:
        objects = await write(world, *range(10), rows=3)
        await one.begin([chain_key()])
        await one.load([LoadStep(chain_key(), LedgerRow(), objects[:2], LANDING)])
        assert (await other.ledger())[chain_key()].last_offset == objects[1].last_offset
        await other.load([LoadStep(chain_key(), (await other.ledger())[chain_key()], objects[2:], LANDING)])
        assert offsets(world.rows(LANDING)) == [*range(10)]


async def test_rows_sent_before_a_channel_is_reopened_exist_once_or_not_at_all(account: Database) -> None:
    """The documentation does not state this assumption: rows in flight are dropped, or are before the committed token."""
    async with real_world(account):
        client = SnowpipeClient(account.sql)
        pipe, channel = pipe_name(LANDING), channel_name(chain_key(7))
        opened = await client.open(pipe, channel)
        await client.append(pipe, channel, opened.next_continuation_token, "1", b'{"record":{"n":1}}\n')
        again = await client.open(pipe, channel)
        token = again.channel_status.last_committed_offset_token
        await client.append(pipe, channel, again.next_continuation_token, "2", b'{"record":{"n":2}}\n')

        async def is_committed() -> bool:
            return (await client.statuses(pipe, [channel]))[channel].last_committed_offset_token == "2"

        await until(is_committed, timeout_s=120)
        await client.close()
        rows = [row[0] for row in account.execute(f"SELECT record:n::int FROM BRONZE.{LANDING} ORDER BY 1")]  # noqa: S608
        assert rows == ([1, 2] if token == "1" else [2])
