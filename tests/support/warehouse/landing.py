"""Creates landing tables in their own database on the local warehouse and fills them as the loader does: COPY of lake objects."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import zstandard

from app.config.settings import S3Settings, SnowflakeSettings
from app.local.stack.stack import Stack
from sinks.sessions import open_session
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import s3_client
from tests.support.machine.stack import settings_of

BUCKET = "landing-test"
Record = Mapping[str, Any]


class Landing:
    """One database with the landing tables. `environment` has the variables for programs that use it."""

    def __init__(self, stack: Stack, home: Path) -> None:
        self.name = f"T{uuid4().hex[:12].upper()}"
        self.home = home
        self.environment = stack.environment() | {
            "BANKSTREAM_SNOWFLAKE_DATABASE": self.name,
            "BANKSTREAM_HOME": str(home),
        }
        self._lake = settings_of(stack, S3Settings)
        found = settings_of(stack, SnowflakeSettings)
        self._session = open_session(found)
        self._objects = 0

    def create(self) -> None:
        """Creates the database, its landing tables and the stage over the bucket."""
        s3 = self._s3()
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=BUCKET)
        self.run(f"CREATE DATABASE {self.name}")
        self.run(f"CREATE SCHEMA {self.name}.BRONZE")
        stage = f"URL = 's3://{BUCKET}/{self.name}/' FILE_FORMAT = (TYPE = JSON)"
        self.run(f"CREATE STAGE {self.name}.BRONZE.LAKE {stage}")
        for table in sorted({topic.landing for topic in CATALOGUE.landed if topic.landing}):
            self.run(f"CREATE TABLE {self.name}.BRONZE.{table} (record VARIANT)")

    def land(self, landed: Mapping[str, Sequence[Record]]) -> None:
        """Appends these records to the landing tables, with one object for each table."""
        for table, records in landed.items():
            if not records:
                continue
            self._objects += 1
            file = f"{table}-{self._objects}.ndjson.zst"
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            body = zstandard.compress(lines.encode())
            self._s3().put_object(Bucket=BUCKET, Key=f"{self.name}/{file}", Body=body)
            stage = f"@{self.name}.BRONZE.LAKE"
            self.run(
                f"COPY INTO {self.name}.BRONZE.{table} FROM {stage} FILES = ('{file}') FILE_FORMAT = (TYPE = JSON)"
            )

    def store(self, name: str, body: bytes) -> None:
        """Stores an object that is not loaded."""
        self._s3().put_object(Bucket=BUCKET, Key=f"{self.name}/{name}", Body=body)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement and returns its rows."""
        return self._session.rows(statement)

    def rows(self, table: str, *columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """The values of columns of a table, sorted."""
        return sorted(
            self.run(f"SELECT {', '.join(columns) or '*'} FROM {self.name}.{table} WHERE {where}"),  # noqa: S608 - our own
            key=repr,
        )

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        schema, name = table.split(".")
        columns = f"{self.name}.INFORMATION_SCHEMA.COLUMNS"
        rows = self._session.rows(
            f"SELECT column_name FROM {columns} WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",  # noqa: S608
            [schema, name],
        )
        return [column for (column,) in rows]

    def contents(self, table: str) -> str:
        """A hash of a table's rows that does not depend on their order."""
        return sha256("\n".join(map(repr, self.rows(table))).encode()).hexdigest()

    def renew(self) -> None:
        """Recreates the database with empty landing tables. It keeps the name, so that dbt does not parse the project again."""
        self.run(f"DROP DATABASE {self.name}")
        self.create()

    def drop(self) -> None:
        """Drops the database and closes the session."""
        self.run(f"DROP DATABASE IF EXISTS {self.name}")
        self._session.close()

    def _s3(self) -> Any:
        return s3_client(self._lake)


@contextmanager
def landing(stack: Stack, home: Path) -> Iterator[Landing]:
    """Landing tables that are dropped at the end."""
    tables = Landing(stack, home)
    try:
        tables.create()
        yield tables
    finally:
        tables.drop()
