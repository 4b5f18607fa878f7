"""Tests that the loader loads every record once if Snowflake refuses any statement of a load."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.local.stack.stack import Stack
from sinks.snowflake import SnowflakeWarehouse
from tests.faults.instruments import snowflake_answers as snowflake
from tests.support.machine.waiting import until
from tests.support.warehouse.real_sinks import Database, real_database, real_world
from tests.support.warehouse.sinks import LANDING, chain_key, offsets, write
from tests.support.web.http_faults import HttpProxy

pytestmark = pytest.mark.integration

STATEMENTS = ("BEGIN", "UPDATE", "COPY", "COMMIT")


@pytest.fixture(scope="module")
def database(lake_stack: Stack) -> Iterator[Database]:
    with real_database(lake_stack) as made:
        yield made


def refused(error: tuple[str, str], faults: HttpProxy, statement: str) -> int:
    """Arms the error for the next such statement, and returns the number of exchanges that will fail."""
    faults.arm(snowflake.statement(statement), snowflake.failure(error, f"{error[0]} at {statement}"))
    return 1


def renewed(faults: HttpProxy, statement: str) -> int:
    """The session token expires, and the connector gets a new one."""
    faults.arm(snowflake.renewal, snowflake.renewed("renewed"))
    return 1 + refused(snowflake.SESSION_EXPIRED, faults, statement)


def not_renewed(faults: HttpProxy, statement: str) -> int:
    """The session token and the token to renew it have expired."""
    faults.arm(snowflake.renewal, snowflake.failure(snowflake.MASTER_EXPIRED, "not renewed"))
    return 1 + refused(snowflake.SESSION_EXPIRED, faults, statement)


REFUSALS = {
    "internal error": lambda faults, statement: refused(snowflake.INTERNAL, faults, statement),
    "session gone": lambda faults, statement: refused(snowflake.SESSION_GONE, faults, statement),
    "login expired": lambda faults, statement: refused(snowflake.MASTER_EXPIRED, faults, statement),
    "token renewed": renewed,
    "token not renewed": not_renewed,
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_load_with_a_refused_statement_is_executed_once(database: Database, refusal: str) -> None:
    async with real_world(database) as world, HttpProxy(database.sql.host or "", database.sql.port) as faults:
        through = SnowflakeWarehouse(
            database.sql.model_copy(update={"host": "127.0.0.1", "port": faults.port, "network_timeout_s": 10})
        )
        loader = replace(world, warehouse=through).loader(sweep_interval_ms=1_000)
        task = asyncio.create_task(loader.run())
        try:
            for number, statement in enumerate(STATEMENTS):
                broken = len(faults.fired) + REFUSALS[refusal](faults, statement)
                for found in await write(world, 2 * number, 2 * number + 1, rows=2):
                    loader.on_announcement(found)
                await until(lambda last=2 * number + 1: loader.is_loaded(chain_key(), last))  # type: ignore[misc]
                assert len(faults.fired) == broken, f"{faults.fired} happened"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await through.close()
        assert offsets(world.rows(LANDING)) == [*range(2 * len(STATEMENTS))]
