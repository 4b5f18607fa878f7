"""The contract of every session with the warehouse: rows, pages, the ledger, and distinct errors."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from app.local.stack.stack import Stack
from sinks.base import LedgerMove, LedgerRow, SinkUnavailableError
from sinks.reading import MissingObjectError, StatementRefusedError, StatementTimeoutError, WarehouseReader
from sinks.relations import relation
from sinks.sessions import open_reader
from sinks.snowflake import SnowflakeWarehouse
from tests.faults.instruments import snowflake_answers as snowflake
from tests.support.warehouse.real_sinks import Database, real_database
from tests.support.warehouse.sinks import LANDING, TOPIC, chain_key
from tests.support.web.http_faults import HttpProxy

pytestmark = pytest.mark.integration

TIMEOUT_S = 10


@pytest.fixture(scope="module")
def database(lake_stack: Stack) -> Iterator[Database]:
    with real_database(lake_stack) as made:
        yield made


@pytest.fixture
def reader(database: Database) -> Iterator[WarehouseReader]:
    database.empty()
    with open_reader(database.sql) as made:
        yield made


def through(database: Database, faults: HttpProxy, *, statement_timeout_s: int | None = None) -> WarehouseReader:
    """A reader behind a proxy that can inject faults."""
    settings = database.sql.model_copy(
        update={"host": "127.0.0.1", "port": faults.port, "network_timeout_s": TIMEOUT_S, "login_timeout_s": TIMEOUT_S}
    )
    return open_reader(settings, statement_timeout_s=statement_timeout_s)


def test_values_are_bound_in_order_and_by_name(reader: WarehouseReader) -> None:
    quoted = "O'Hara, 100 %"
    assert reader.rows("SELECT %s, %s, %s", [quoted, 7, None]) == [(quoted, 7, None)]
    assert reader.rows("SELECT %(b)s, %(a)s", {"a": 1, "b": quoted}) == [(quoted, 1)]


def test_a_percent_sign_is_a_plain_character_where_nothing_is_bound(reader: WarehouseReader) -> None:
    assert reader.rows("SELECT 'a' LIKE 'a%'") == [(True,)]


def test_columns_are_named_in_lower_case_whatever_the_statement_writes(reader: WarehouseReader) -> None:
    assert reader.named_rows("SELECT 1 AS First, %s AS SECOND", ["b"]) == [{"first": 1, "second": "b"}]
    assert reader.named_rows("SELECT 1 AS first WHERE false") == []


@pytest.mark.parametrize("size", [1, 3, 4, 11, 12, 13])
def test_pages_have_every_row_once_and_in_the_order_of_the_key(
    database: Database, reader: WarehouseReader, size: int
) -> None:
    name = relation(database.sql.database, f"PAGED_{size}")
    keys = [-5, 0, *range(3, 10), 40, 41, 2**53 + 1]
    values = ", ".join(f"({key}, 'row {key}')" for key in reversed(keys))
    reader.rows(f"CREATE TEMPORARY TABLE {name} AS SELECT column1 AS k, column2 AS v FROM VALUES {values}")  # noqa: S608
    pages = list(reader.pages(name, ("k", "v"), size=size))
    assert [row for page in pages for row in page] == [(key, f"row {key}") for key in keys]
    assert {len(page) for page in pages[:-1]} <= {size}
    reader.rows(f"DELETE FROM {name}")  # noqa: S608 - our own
    assert list(reader.pages(name, ("k", "v"), size=size)) == []


async def test_the_ledger_is_what_its_writer_reads(database: Database, reader: WarehouseReader) -> None:
    assert reader.ledger() == {}
    writer = SnowflakeWarehouse(database.sql)
    try:
        await writer.begin([chain_key(0), chain_key(1)])
        await writer.advance([LedgerMove(chain_key(1), LedgerRow(), LedgerRow(7, "t/1/0.ndjson", "ab"))])
        assert reader.ledger() == await writer.ledger()
    finally:
        await writer.close()
    assert reader.ledger() == {chain_key(0): LedgerRow(), chain_key(1): LedgerRow(7, "t/1/0.ndjson", "ab")}
    assert {key.topic for key in reader.ledger()} == {TOPIC}


@pytest.mark.parametrize("missing", ["{database}.BRONZE.NO_TABLE", "{database}.NO_SCHEMA.ALERTS", "NO_DATABASE.X.Y"])
def test_a_missing_object_has_its_own_error_and_the_session_continues(
    database: Database, reader: WarehouseReader, missing: str
) -> None:
    name = missing.format(database=database.sql.database)
    with pytest.raises(MissingObjectError, match=name.rsplit(".", 1)[-1]) as refused:
        reader.rows(f"SELECT * FROM {name}")  # noqa: S608 - our own
    assert refused.value.number == 2003
    assert reader.rows(f"SELECT count(*) FROM {relation(database.sql.database, LANDING)}") == [(0,)]  # noqa: S608


async def test_a_refusal_has_the_warehouses_error_number_and_the_session_continues(database: Database) -> None:
    async with HttpProxy(database.sql.host or "", database.sql.port) as faults:
        reader = await asyncio.to_thread(through, database, faults)
        syntax = ("001003", "SQL compilation error:\nsyntax error line 1 at position 7 unexpected 'nonsense'.")
        faults.arm(snowflake.statement("SELECT"), snowflake.failure(syntax, "refused"))
        with pytest.raises(StatementRefusedError, match=r"127\.0\.0\.1 refuses .* unexpected 'nonsense'") as refused:
            await asyncio.to_thread(reader.rows, "SELECT nonsense")
        assert (type(refused.value), refused.value.number) == (StatementRefusedError, 1003)
        assert await asyncio.to_thread(reader.rows, "SELECT 1") == [(1,)]
        await asyncio.to_thread(reader.close)


async def test_a_statement_timeout_is_not_reported_as_an_unavailable_warehouse(database: Database) -> None:
    async with HttpProxy(database.sql.host or "", database.sql.port) as faults:
        reader = await asyncio.to_thread(through, database, faults, statement_timeout_s=TIMEOUT_S)
        cancelled = ("000604", "SQL execution canceled")
        faults.arm(snowflake.statement("SELECT"), snowflake.failure(cancelled, "cancelled"))
        with pytest.raises(StatementTimeoutError, match=f"no answer within {TIMEOUT_S} s"):
            await asyncio.to_thread(reader.rows, "SELECT 1")
        assert await asyncio.to_thread(reader.rows, "SELECT 1") == [(1,)]
        await asyncio.to_thread(reader.close)


@pytest.mark.parametrize("answer", [snowflake.SESSION_GONE, snowflake.MASTER_EXPIRED])
async def test_a_lost_session_is_not_replaced(database: Database, answer: tuple[str, str]) -> None:
    async with HttpProxy(database.sql.host or "", database.sql.port) as faults:
        reader = await asyncio.to_thread(through, database, faults)
        faults.arm(snowflake.statement("SELECT"), snowflake.failure(answer, "lost"))
        for _ in range(2):  # the reader opens no new session by itself, because temporary tables would be missing
            with pytest.raises(SinkUnavailableError, match="has ended the session"):
                await asyncio.to_thread(reader.rows, "SELECT 1")
        assert faults.fired == ["lost"]
        another = await asyncio.to_thread(through, database, faults)
        assert await asyncio.to_thread(another.rows, "SELECT 1") == [(1,)]
        await asyncio.to_thread(another.close)


def test_an_unavailable_warehouse_is_reported_with_what_to_check(database: Database) -> None:
    away = database.sql.model_copy(update={"host": "127.0.0.1", "port": 1, "login_timeout_s": 1})
    with pytest.raises(SinkUnavailableError, match=r"127\.0\.0\.1 gives no session.*BANKSTREAM_SNOWFLAKE_\*"):
        open_reader(away)


def test_a_refused_login_is_reported_without_the_password(database: Database) -> None:
    stranger = database.sql.model_copy(update={"password": SecretStr("a-wrong-password")})
    with pytest.raises(SinkUnavailableError, match=f"gives no session to {stranger.user}") as refused:
        open_reader(stranger)
    assert "a-wrong-password" not in str(refused.value)


def test_the_end_of_the_block_ends_the_session(database: Database) -> None:
    with open_reader(database.sql) as reader:
        assert reader.rows("SELECT 1") == [(1,)]
    with pytest.raises(SinkUnavailableError):
        reader.rows("SELECT 1")
    reader.close()
