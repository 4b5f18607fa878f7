"""Prepares the database of a rebuild: an empty one, or the one of an earlier run over the same lake."""

from collections.abc import Set as AbstractSet
from typing import Final

from app.config.settings import S3Settings, SnowflakeSettings
from app.config.topics import Catalogue
from app.operations.provision import warehouse
from app.proof.rebuild.report import RebuildError
from sinks.reading import WarehouseSession
from sinks.relations import LEDGER, SCHEMA, relation
from sinks.sessions import open_session
from sinks.sql import identifier

MARKER: Final = "REBUILD"
"""A table with one row: the lake of the rebuild, and the times of its start and end."""
OWN: Final = frozenset({MARKER, LEDGER, "SCHEMA_VERSIONS"})


def lake_url(lake: S3Settings) -> str:
    """Returns the lake's name in the marker table."""
    return "s3://" + "/".join(part for part in (lake.bucket, lake.prefix.strip("/")) if part)


def prepare(settings: SnowflakeSettings, lake: S3Settings, catalogue: Catalogue) -> bool:
    """Creates the database and its tables, if they are missing. Returns whether an earlier run has begun the rebuild.

    RebuildError if the database contains objects of another origin: a rebuild only adds to its own objects. SinkError if the warehouse
    does not answer.
    """
    database = identifier(settings.database)
    marker = relation(database, MARKER)
    with open_session(settings) as session:
        session.rows(f"CREATE DATABASE IF NOT EXISTS {database}")
        begun = _begun(session, database, lake)
        if not begun:
            _refuse_foreign(session, database, set(warehouse.landing_tables(catalogue)))
            session.rows(f"CREATE SCHEMA IF NOT EXISTS {database}.{SCHEMA}")
            columns = "lake VARCHAR NOT NULL, begun_at TIMESTAMP_NTZ NOT NULL, finished_at TIMESTAMP_NTZ"
            session.rows(f"CREATE TABLE IF NOT EXISTS {marker} ({columns})")
            session.rows(f"INSERT INTO {marker} SELECT %s, SYSDATE(), NULL", [lake_url(lake)])
    warehouse.provision(settings, lake, catalogue)
    return begun


def finished(settings: SnowflakeSettings) -> None:
    """Records in the marker table that everything was loaded."""
    with open_session(settings) as session:
        session.rows(f"UPDATE {relation(settings.database, MARKER)} SET finished_at = SYSDATE()")  # noqa: S608 - a name


def _begun(session: WarehouseSession, database: str, lake: S3Settings) -> bool:
    if (SCHEMA, MARKER) not in _tables(session, database):
        return False
    rows = session.rows(f"SELECT lake FROM {relation(database, MARKER)}")  # noqa: S608 - a name
    if any(row[0] != lake_url(lake) for row in rows):
        raise RebuildError(
            f"database {database} is being rebuilt from {rows[0][0]}, not from {lake_url(lake)}. Name another database"
        )
    return bool(rows)


def _refuse_foreign(session: WarehouseSession, database: str, landing: AbstractSet[str]) -> None:
    for schema, table in sorted(_tables(session, database)):
        if schema == SCHEMA and table in OWN | landing:
            name = relation(database, table)
            if table == "SCHEMA_VERSIONS" or not session.rows(f"SELECT 1 FROM {name} LIMIT 1"):  # noqa: S608 - a name
                continue
        raise RebuildError(
            f"database {database} is not empty: it has table {schema}.{table}. A rebuild needs a database of its own; name another"
        )


def _tables(session: WarehouseSession, database: str) -> set[tuple[str, str]]:
    rows = session.rows(
        f"SELECT table_schema, table_name FROM {database}.INFORMATION_SCHEMA.TABLES "  # noqa: S608 - an identifier
        "WHERE upper(table_schema) <> 'INFORMATION_SCHEMA'",
    )
    return {(str(schema).upper(), str(table).upper()) for schema, table in rows}
