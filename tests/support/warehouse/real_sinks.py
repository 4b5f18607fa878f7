"""Fixtures for tests of the sinks: the empty lake and warehouse of the local stack, and each kind of sink environment."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from app.config.settings import S3Settings, SnowflakeSettings
from app.local.stack.stack import Stack
from app.operations.provision import lake, warehouse
from sinks.base import ObjectStore, Warehouse
from sinks.lines import Line, read
from sinks.reading import WarehouseSession
from sinks.relations import LEDGER
from sinks.s3 import S3Store
from sinks.sessions import open_reader
from sinks.snowflake import SnowflakeWarehouse
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.warehouse.sinks import SinkEnvironment, memory_world, streaming_world

BUCKET = "sinks-test"


@dataclass
class Database:
    """A provisioned database of the local warehouse, and settings for its lake."""

    s3: S3Settings
    sql: SnowflakeSettings
    session: WarehouseSession

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Runs a statement and returns its rows."""
        return self.session.rows(statement)

    def empty(self) -> None:
        """Deletes all rows and the ledger, and moves the stage to an unused folder."""
        self.s3 = self.s3.model_copy(update={"prefix": uuid4().hex})
        for table in (*warehouse.landing_tables(CATALOGUE), LEDGER):
            self.execute(f"DELETE FROM BRONZE.{table}")  # noqa: S608 - our own
        self.execute(warehouse.stage(self.sql, self.s3))


@contextmanager
def real_database(stack: Stack) -> Iterator[Database]:
    """A database that is dropped at the end."""
    name = f"T{uuid4().hex[:12].upper()}"
    s3 = settings_of(stack, S3Settings, bucket=BUCKET, prefix=name, max_attempts=4)
    sql = settings_of(stack, SnowflakeSettings, database=name)
    lake.provision(s3)
    warehouse.provision(sql, s3, CATALOGUE)
    made = Database(s3, sql, open_reader(sql))
    try:
        yield made
    finally:
        made.execute(f"DROP DATABASE {name}")
        made.session.close()


@asynccontextmanager
async def real_world(database: Database) -> AsyncIterator[SinkEnvironment]:
    """A sink environment on the local stack's S3 and warehouse, both empty."""
    database.empty()
    opened: list[ObjectStore | Warehouse] = []

    def rows(table: str) -> list[Line]:
        return [read(str(row[0]).encode()) for row in database.execute(f"SELECT record FROM BRONZE.{table}")]  # noqa: S608 - our own

    def store(folder: str = "") -> ObjectStore:
        opened.append(S3Store(database.s3.model_copy(update={"prefix": database.s3.prefix + folder})))
        return opened[-1]  # type: ignore[return-value]  # just put there

    def tables() -> Warehouse:
        opened.append(SnowflakeWarehouse(database.sql))
        return opened[-1]  # type: ignore[return-value]  # just put there

    try:
        yield SinkEnvironment(
            store(), tables(), rows, store, lambda: store("-other"), tables, database.execute, real=True
        )
    finally:
        for one in opened:
            await one.close()


@pytest.fixture(scope="session")
def sinks_database(lake_stack: Stack) -> Iterator[Database]:
    with real_database(lake_stack) as made:
        yield made


@pytest.fixture(params=["memory", "streaming", "real"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SinkEnvironment]:
    if request.param == "memory":
        async with memory_world() as made:
            yield made
    elif request.param == "streaming":
        async with streaming_world(tmp_path) as streaming:
            yield streaming.world
    else:
        async with real_world(request.getfixturevalue("sinks_database")) as made:
            yield made
