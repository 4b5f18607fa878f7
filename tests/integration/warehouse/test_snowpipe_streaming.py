"""Tests that Snowpipe Streaming neither loses nor duplicates rows, whichever request fails.

test_sinks_contract.py and test_sinks_deaths.py test the contract of all warehouses, also with Snowpipe Streaming.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.config.settings import S3Settings, SnowflakeSettings, WarehouseSettings
from app.errors import ContinuityError, SettingsError
from app.warehouse import chosen
from sinks import loader
from sinks.base import LedgerConflictError, LedgerRow, LoadStep, SinkRefusedError, SinkUnavailableError
from sinks.s3 import S3Store
from sinks.snowflake import SnowflakeWarehouse
from sinks.snowpipe_client import SnowpipeClient
from sinks.snowpipe_streaming import ChannelPosition, StreamingWarehouse, channel_name, parse_token
from tests.support.catalogue import CATALOGUE
from tests.support.machine.waiting import until
from tests.support.warehouse.real_sinks import Database, real_world
from tests.support.warehouse.sinks import (
    LANDING,
    PIPES,
    Streaming,
    chain_key,
    load_all,
    offsets,
    streaming_warehouse,
    streaming_world,
    write,
)
from tests.support.warehouse.snowpipe_server import Fault, Operation, SnowpipeServer

pytestmark = pytest.mark.integration

CHANNEL = channel_name(chain_key()).upper()


@pytest.fixture
async def streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streaming]:
    monkeypatch.setattr(loader, "MAX_BACKOFF_S", 0.01)
    async with streaming_world(tmp_path) as made:
        yield made


def step(objects: list[object], previous: LedgerRow | None = None) -> LoadStep:
    return LoadStep(chain_key(), previous or LedgerRow(), objects, LANDING)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        *(
            (operation, fault)
            for operation in ("open", "append", "status")
            for fault in ("before", "after", "throttled", "expired")
        ),
        *((operation, fault) for operation in ("hostname", "token") for fault in ("before", "after")),
        ("append", "never"),
    ],
)
async def test_a_fault_in_any_request_neither_loses_nor_duplicates_rows(
    streaming: Streaming, operation: Operation, fault: Fault
) -> None:
    await write(streaming.world, *range(12), rows=6)
    streaming.server.arm(operation, fault)
    await load_all(streaming.world.loader(), 11)
    assert streaming.server.fired == [(operation, fault)]
    assert offsets(streaming.world.rows(LANDING)) == [*range(12)]
    assert (await streaming.ledger.ledger())[chain_key()].last_offset == 11


@pytest.mark.parametrize("seed", range(4))
async def test_many_consecutive_faults_neither_lose_nor_duplicate_rows(streaming: Streaming, seed: int) -> None:
    kinds: list[Fault] = ["after", "before", "expired", "never", "throttled"]
    await write(streaming.world, *range(30), rows=5)
    for number in range(4):
        streaming.server.arm("append", kinds[(seed + number) % 5], kinds[(seed * 3 + number) % 5])
        streaming.server.arm("status", kinds[(seed + number * 2) % 3])
    await load_all(streaming.world.loader(max_objects=2), 29)
    assert len(streaming.server.fired) >= 6
    assert offsets(streaming.world.rows(LANDING)) == [*range(30)]


async def test_committed_rows_of_a_partly_sent_object_are_not_sent_again(streaming: Streaming) -> None:
    [found] = await write(streaming.world, *range(9), rows=9)
    one, other = streaming.world.warehouse, streaming.world.second_warehouse()
    await one.begin([chain_key()])
    streaming.server.arm("append", "after")  # the first request of the object is executed, and its response is lost
    with pytest.raises(SinkUnavailableError):
        await one.load([step([found])])
    await until(lambda: streaming.server.channels[CHANNEL].committed is not None)
    half = parse_token(chain_key(), streaming.server.channels[CHANNEL].committed)
    assert half.row == LedgerRow()
    assert 0 <= half.through < 8
    assert (await other.ledger())[chain_key()] == LedgerRow()
    await other.load([step([found])])
    assert offsets(streaming.world.rows(LANDING)) == [*range(9)]


async def test_rows_are_not_loaded_before_they_are_committed(streaming: Streaming) -> None:
    found = await write(streaming.world, 0, 1)
    streaming.server.commit_delay_s = 3600
    impatient = streaming_warehouse(
        streaming.server, streaming.ledger, streaming.world.store, streaming_commit_timeout_s=1
    )
    await impatient.begin([chain_key()])
    with pytest.raises(SinkUnavailableError, match="not committed"):
        await impatient.load([step(list(found))])
    assert (await impatient.ledger())[chain_key()] == LedgerRow()
    streaming.server.commit_delay_s = 0
    await impatient.load([step(list(found))])
    assert offsets(streaming.world.rows(LANDING)) == [0, 1]
    await impatient.close()


async def test_a_zombie_can_send_nothing_once_its_successor_has_the_channel(streaming: Streaming) -> None:
    first, second, third = await write(streaming.world, 0, 1, 2)
    zombie, successor = streaming.world.warehouse, streaming.world.second_warehouse()
    await zombie.begin([chain_key()])
    await zombie.load([step([first])])
    end = step([first]).end
    await successor.ledger()
    await successor.load([step([second], end)])
    with pytest.raises(LedgerConflictError, match="STALE"):
        await zombie.load([step([second, third], end)])
    assert offsets(streaming.world.rows(LANDING)) == [0, 1]
    assert (await zombie.ledger())[chain_key()].last_offset == 1


async def test_a_row_that_the_pipe_leaves_out_stops_its_chain_and_the_ledger_stays_before_it(
    streaming: Streaming, caplog: pytest.LogCaptureFixture
) -> None:
    await write(streaming.world, 0)
    await load_all(streaming.world.loader(), 0)
    streaming.server.channels[CHANNEL].errors = 1
    for number in (1, 2):
        await write(streaming.world, number)
    await write(streaming.world, 0, 1, number=1)
    loader = streaming.world.loader(sweep_interval_ms=50)
    task = asyncio.create_task(loader.run())
    await until(lambda: loader.is_loaded(chain_key(1), 1) and "has left out 1 rows" in caplog.text)
    task.cancel()
    assert (await streaming.ledger.ledger())[chain_key()].last_offset == 0


async def test_a_lost_channel_continues_at_the_ledger(streaming: Streaming) -> None:
    await write(streaming.world, 0, 1)
    await load_all(streaming.world.loader(), 1)
    del streaming.server.channels[CHANNEL]  # as Snowflake does with a channel that was idle for a long time
    await write(streaming.world, 2, 3)
    await load_all(streaming.world.loader(), 3)
    assert offsets(streaming.world.rows(LANDING)) == [0, 1, 2, 3]


async def test_the_ledger_is_moved_to_channels_that_are_ahead_of_it(streaming: Streaming) -> None:
    found = await write(streaming.world, 0, 1)
    late = streaming_warehouse(
        streaming.server, streaming.ledger, streaming.world.store, streaming_ledger_interval_ms=3_600_000
    )
    await late.begin([chain_key()])
    await late.load([step([found[0]])])  # the first load updates the ledger's table, the next ones defer it
    await late.load([step([found[1]], step([found[0]]).end)])
    assert (await streaming.ledger.ledger())[chain_key()].last_offset == 0
    assert (await streaming.world.warehouse.ledger())[chain_key()].last_offset == 1
    assert (await streaming.ledger.ledger())[chain_key()].last_offset == 1
    await late.close()


async def test_closing_moves_the_ledger_to_the_channels(streaming: Streaming) -> None:
    found = await write(streaming.world, 0, 1)
    late = streaming_warehouse(
        streaming.server, streaming.ledger, streaming.world.store, streaming_ledger_interval_ms=3_600_000
    )
    await late.begin([chain_key()])
    await late.load([step([found[0]])])
    await late.load([step([found[1]], step([found[0]]).end)])
    await late.close()
    assert (await streaming.ledger.ledger())[chain_key()].last_offset == 1


async def test_a_foreign_offset_token_is_a_continuity_error(streaming: Streaming) -> None:
    await write(streaming.world, 0)
    await load_all(streaming.world.loader(), 0)
    streaming.server.channels[CHANNEL].committed = "17"
    with pytest.raises(ContinuityError, match="'17'"):
        await streaming.world.warehouse.ledger()


@pytest.mark.parametrize(
    "row", [LedgerRow(), LedgerRow(41, "bank.alerts/first/0/00000000000000000007.ndjson.zst", "ab12")]
)
def test_a_position_is_decoded_from_its_token(row: LedgerRow) -> None:
    assert parse_token(chain_key(), ChannelPosition(row, 44).token()) == ChannelPosition(row, 44)


async def test_a_wrong_key_and_a_missing_pipe_are_reported(streaming: Streaming, tmp_path: Path) -> None:
    async with SnowpipeServer(tmp_path, {}, lambda *_: None, "BANK") as server:
        client = SnowpipeClient(server.settings())
        with pytest.raises(SinkRefusedError, match="ERR_PIPE_DOES_NOT_EXIST"):
            await client.open("ALERTS_STREAM", "c")
        await client.close()
        client = SnowpipeClient(server.settings(user="SOMEBODY"))
        with pytest.raises(SinkUnavailableError, match="SOMEBODY"):
            await client.open("ALERTS_STREAM", "c")
        await client.close()
    client = SnowpipeClient(streaming.server.settings(port=server.port))
    with pytest.raises(SinkUnavailableError):
        await client.open("ALERTS_STREAM", "c")
    await client.close()


def test_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PRIVATE_KEY_PATH"):
        SnowpipeClient(SnowflakeSettings(password="x"))
    unreadable = tmp_path / "key.p8"
    unreadable.write_text("no key")
    with pytest.raises(SettingsError, match=r"key\.p8"):
        SnowpipeClient(SnowflakeSettings(private_key_path=unreadable))


async def test_a_setting_chooses_copy_or_snowpipe_streaming(streaming: Streaming) -> None:
    store, snowflake = S3Store(S3Settings()), streaming.server.settings()
    for way, kind in (("copy", SnowflakeWarehouse), ("streaming", StreamingWarehouse)):
        made = chosen(snowflake, WarehouseSettings(sink=way), store, CATALOGUE.landing)
        assert type(made) is kind
        await made.close()


@pytest.mark.slow
async def test_streaming_and_copy_give_equal_tables(sinks_database: Database, tmp_path: Path) -> None:
    """On the local warehouse: objects by COPY, then by channels, then by COPY again give the same table and ledger."""

    def commit(table: str, rows: list[str]) -> None:
        values = ", ".join("('{}')".format(row.replace("\\", "\\\\").replace("'", "''")) for row in rows)
        sinks_database.execute(f"INSERT INTO BRONZE.{table} SELECT parse_json(column1) FROM VALUES {values}")  # noqa: S608

    async with (
        real_world(sinks_database) as world,
        SnowpipeServer(tmp_path, PIPES, commit, sinks_database.sql.database) as server,  # type: ignore[arg-type]
    ):
        await write(world, *range(6), rows=3)
        await load_all(world.loader(), 5)
        await write(world, *range(6, 15), rows=3)
        by_channels = streaming_warehouse(server, SnowflakeWarehouse(sinks_database.sql), world.store)
        await load_all(replace(world, warehouse=by_channels).loader(), 14)
        await by_channels.close()
        await write(world, *range(15, 21), rows=3)
        await load_all(world.loader(), 20)
        assert offsets(world.rows(LANDING)) == [*range(21)]
        assert server.channels[CHANNEL].committed is not None
        shapes = {(row.key_bytes(), row.topic, row.ts, row.partition) for row in world.rows(LANDING)}
        assert len(shapes) == 1
        assert {row.offset: row.value_bytes() for row in world.rows(LANDING)} == {n: b'{"n":%d}' % n for n in range(21)}
        assert (await world.warehouse.ledger())[chain_key()].last_offset == 20
