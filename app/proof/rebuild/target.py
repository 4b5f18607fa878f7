"""The database that is rebuilt: empty at first, or left behind by an earlier run over the same lake."""

from collections.abc import Set as AbstractSet
from typing import Any, Final

from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import Error

from app.config.settings import S3Settings, SnowflakeSettings
from app.config.topics import Catalogue
from app.operations.provision import warehouse
from app.proof.rebuild.report import RebuildError
from sinks.snowflake import LEDGER, connect
from sinks.sql import identifier

MARKER: Final = "REBUILD"
"""A table with one row: which lake this database is rebuilt from, and when that was begun and finished."""
OWN: Final = frozenset({MARKER, LEDGER, "SCHEMA_VERSIONS"})


def lake_url(lake: S3Settings) -> str:
    """The lake's name in the marker."""
    return "s3://" + "/".join(part for part in (lake.bucket, lake.prefix.strip("/")) if part)


def prepare(settings: SnowflakeSettings, lake: S3Settings, catalogue: Catalogue) -> bool:
    """See that the database is there, is ours to fill, and has its tables; answers whether an earlier run has begun it.

    RebuildError when it holds something that is not of such a run: a rebuild only ever adds to what it made itself.
    """
    database = identifier(settings.database)
    with _session(settings) as connection:
        _run(connection, f"CREATE DATABASE IF NOT EXISTS {database}")
        begun = _begun(connection, database, lake)
        if not begun:
            _refuse_foreign(connection, database, set(warehouse.landing_tables(catalogue)))
            _run(connection, f"CREATE SCHEMA IF NOT EXISTS {database}.BRONZE")
            columns = "lake VARCHAR NOT NULL, begun_at TIMESTAMP_NTZ NOT NULL, finished_at TIMESTAMP_NTZ"
            _run(connection, f"CREATE TABLE IF NOT EXISTS {database}.BRONZE.{MARKER} ({columns})")
            _run(
                connection,
                f"INSERT INTO {database}.BRONZE.{MARKER} SELECT %s, SYSDATE(), NULL",
                [lake_url(lake)],
            )
    warehouse.provision(settings, lake, catalogue)
    return begun


def finished(settings: SnowflakeSettings) -> None:
    """Note that everything was loaded."""
    with _session(settings) as connection:
        _run(connection, f"UPDATE {identifier(settings.database)}.BRONZE.{MARKER} SET finished_at = SYSDATE()")  # noqa: S608


def _begun(connection: SnowflakeConnection, database: str, lake: S3Settings) -> bool:
    if ("BRONZE", MARKER) not in _tables(connection, database):
        return False
    rows = _run(connection, f"SELECT lake FROM {database}.BRONZE.{MARKER}")  # noqa: S608 - an identifier
    if any(row[0] != lake_url(lake) for row in rows):
        raise RebuildError(
            f"database {database} is being rebuilt from {rows[0][0]}, not from {lake_url(lake)}. Name another database"
        )
    return bool(rows)


def _refuse_foreign(connection: SnowflakeConnection, database: str, landing: AbstractSet[str]) -> None:
    for schema, table in sorted(_tables(connection, database)):
        if schema == "BRONZE" and table in OWN | landing:
            name = f"{database}.BRONZE.{identifier(table)}"
            if table == "SCHEMA_VERSIONS" or not _run(connection, f"SELECT 1 FROM {name} LIMIT 1"):  # noqa: S608
                continue
        raise RebuildError(
            f"database {database} is not empty: it has table {schema}.{table}. A rebuild needs a database of its own; name another"
        )


def _tables(connection: SnowflakeConnection, database: str) -> set[tuple[str, str]]:
    rows = _run(
        connection,
        f"SELECT table_schema, table_name FROM {database}.INFORMATION_SCHEMA.TABLES "  # noqa: S608 - an identifier
        "WHERE upper(table_schema) <> 'INFORMATION_SCHEMA'",
    )
    return {(str(schema).upper(), str(table).upper()) for schema, table in rows}


def _session(settings: SnowflakeSettings) -> SnowflakeConnection:
    try:
        return connect(settings, database=False)
    except Error as error:
        raise RebuildError(f"the warehouse does not let {settings.user} in: {error.msg or error}") from None


def _run(connection: SnowflakeConnection, sql: str, values: Any = None) -> list[tuple[Any, ...]]:
    try:
        with connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(sql, values) or ()]
    except Error as error:
        raise RebuildError(
            f"the warehouse refuses `{' '.join(sql.split())}`: {' '.join(str(error.msg or error).split())}"
        ) from None
