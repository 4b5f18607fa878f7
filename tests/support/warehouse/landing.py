"""Landing tables in a database of their own on the local warehouse, filled as the loader fills them: COPY of lake objects."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import snowflake.connector
import zstandard

from app.config.settings import S3Settings, SnowflakeSettings
from app.local.stack.stack import Stack
from tests.support.catalogue import CATALOGUE
from tests.support.machine.clients import s3_client
from tests.support.machine.stack import settings_of

BUCKET = "landing-test"
Record = Mapping[str, Any]


class Landing:
    """One database with the landing tables in it. `environment` points programs at it."""

    def __init__(self, stack: Stack, home: Path) -> None:
        self.name = f"T{uuid4().hex[:12].upper()}"
        self.home = home
        self.environment = stack.environment() | {
            "BANKSTREAM_SNOWFLAKE_DATABASE": self.name,
            "BANKSTREAM_HOME": str(home),
        }
        self._lake = settings_of(stack, S3Settings)
        found = settings_of(stack, SnowflakeSettings)
        assert found.password is not None
        self._connection = snowflake.connector.connect(
            account=found.account, host=found.host, port=found.port, protocol=found.protocol, user=found.user,
            password=found.password.get_secret_value(), login_timeout=20, network_timeout=60,
        )  # fmt: skip
        self._objects = 0

    def create(self) -> None:
        """The database, its landing tables and the stage over the bucket."""
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
        """Append these records, table by table, one object each."""
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
        """An object beside those that landed."""
        self._s3().put_object(Bucket=BUCKET, Key=f"{self.name}/{name}", Body=body)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement and its rows."""
        with self._connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(statement) or ()]

    def rows(self, table: str, *columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """Columns of a table, sorted."""
        return sorted(
            self.run(f"SELECT {', '.join(columns) or '*'} FROM {self.name}.{table} WHERE {where}"),  # noqa: S608 - our own
            key=repr,
        )

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {self.name}.{table} LIMIT 0")  # noqa: S608 - our own
            return [column.name for column in cursor.description]

    def contents(self, table: str) -> str:
        """A hash of a table's rows, whatever their order."""
        return sha256("\n".join(map(repr, self.rows(table))).encode()).hexdigest()

    def renew(self) -> None:
        """Everything gone, the landing tables empty again. The name stays, so that dbt needs not parse the project anew."""
        self.run(f"DROP DATABASE {self.name}")
        self.create()

    def drop(self) -> None:
        """Leave nothing behind."""
        self.run(f"DROP DATABASE IF EXISTS {self.name}")
        self._connection.close()

    def _s3(self) -> Any:
        return s3_client(self._lake)


@contextmanager
def landing(stack: Stack, home: Path) -> Iterator[Landing]:
    """Landing tables that are gone afterwards."""
    tables = Landing(stack, home)
    try:
        tables.create()
        yield tables
    finally:
        tables.drop()
