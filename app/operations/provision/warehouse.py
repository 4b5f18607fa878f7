"""Provisions the warehouse: database, schemas, landing tables, ledger, file format and the external stage over the lake.

Objects that never change after their creation are numbered migrations, recorded in BRONZE.SCHEMA_VERSIONS. Landing tables depend on the
topic catalogue and the stage on the settings, so both are checked at every run. Provisioning is idempotent.
"""

from collections.abc import Mapping
from typing import Final

from app.config.settings import S3Settings, SnowflakeSettings, read
from app.config.topics import Catalogue, read_catalogue
from app.errors import BankstreamError, one_line
from sinks.reading import Row, StatementRefusedError, WarehouseSession
from sinks.relations import LEDGER, SCHEMA, relation
from sinks.sessions import open_session
from sinks.sql import identifier

SCHEMAS: Final = (SCHEMA, "SILVER", "GOLD")
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE FILE FORMAT IF NOT EXISTS {bronze}.LAKE_NDJSON TYPE = JSON COMPRESSION = ZSTD",
        f"""CREATE TABLE IF NOT EXISTS {{bronze}}.{LEDGER} (
            topic VARCHAR NOT NULL,
            incarnation VARCHAR NOT NULL,
            log_partition INTEGER NOT NULL,
            last_offset INTEGER NOT NULL,
            last_object VARCHAR NOT NULL,
            last_sha256 VARCHAR NOT NULL,
            loaded_at TIMESTAMP_NTZ NOT NULL,
            PRIMARY KEY (topic, incarnation, log_partition)
        )""",
    ),
)
"""Each entry is a version, counted from 1. Only append: an applied migration must not change."""


class WarehouseError(BankstreamError):
    """The warehouse cannot be set up."""


def run(environment: Mapping[str, str]) -> None:
    """Runs the step for the local stack and for `bankstream provision`; `environment` overrides the process's variables."""
    provision(read(SnowflakeSettings, environment), read(S3Settings, environment), read_catalogue(environment))


def provision(warehouse: SnowflakeSettings, lake: S3Settings, catalogue: Catalogue) -> int:
    """Sets everything up. Returns the number of migrations that it applied.

    WarehouseError names the rejected statement. SinkUnavailableError if the warehouse does not answer.
    """
    with open_session(warehouse) as session:
        database = identifier(warehouse.database)
        bronze = f"{database}.{SCHEMA}"
        _run(session, f"CREATE DATABASE IF NOT EXISTS {database}")
        for schema in SCHEMAS:
            _run(session, f"CREATE SCHEMA IF NOT EXISTS {database}.{schema}")
        applied = _migrate(session, bronze)
        for table in landing_tables(catalogue):
            _run(session, f"CREATE TABLE IF NOT EXISTS {relation(database, table)} (record VARIANT)")
        _run(session, stage(warehouse, lake), secret=True)
    return applied


def landing_tables(catalogue: Catalogue) -> list[str]:
    """Returns the landing tables of the catalogue, each once."""
    return sorted(set(map(identifier, catalogue.landing.values())))


def stage(warehouse: SnowflakeSettings, lake: S3Settings) -> str:
    """Returns the statement that creates the external stage. With a storage integration it contains no key."""
    name = relation(warehouse.database, warehouse.stage)
    url = "/".join(part for part in (lake.bucket, lake.prefix.strip("/")) if part)
    if warehouse.storage_integration is not None:
        access = f"STORAGE_INTEGRATION = {identifier(warehouse.storage_integration)}"
    elif lake.access_key_id is not None and lake.secret_access_key is not None:
        access = (
            f"CREDENTIALS = (AWS_KEY_ID = {_quoted(lake.access_key_id)} "
            f"AWS_SECRET_KEY = {_quoted(lake.secret_access_key.get_secret_value())})"
        )
    else:
        access = ""
    return (
        f"CREATE OR REPLACE STAGE {name} URL = {_quoted(f's3://{url}/')} {access} "
        "FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD)"
    )


def _migrate(session: WarehouseSession, bronze: str) -> int:
    _run(
        session,
        f"CREATE TABLE IF NOT EXISTS {bronze}.SCHEMA_VERSIONS (version INTEGER NOT NULL, applied_at TIMESTAMP_NTZ NOT NULL)",
    )
    [(newest,)] = _run(session, f"SELECT coalesce(max(version), 0) FROM {bronze}.SCHEMA_VERSIONS")  # noqa: S608 - an identifier
    if newest > len(MIGRATIONS):
        raise WarehouseError(
            f"{bronze} has schema version {newest}, this program has {len(MIGRATIONS)}. Use a newer version of the program."
        )
    for version, statements in enumerate(MIGRATIONS[newest:], newest + 1):
        for statement in statements:
            _run(session, statement.format(bronze=bronze))
        _run(session, f"INSERT INTO {bronze}.SCHEMA_VERSIONS SELECT {version}, SYSDATE()")
    return len(MIGRATIONS) - int(newest)


def _run(session: WarehouseSession, sql: str, *, secret: bool = False) -> list[Row]:
    try:
        return session.rows(sql)
    except StatementRefusedError as error:
        shown = f"{sql.split(' URL', maxsplit=1)[0]} …" if secret else " ".join(sql.split())
        raise WarehouseError(
            f"the warehouse rejects `{shown}` with error {error.number}. Check the role's privileges."
            + ("" if secret else f" It says: {one_line(error)}")
        ) from None


def _quoted(text: str) -> str:
    """Returns a string literal for a key or URL. WarehouseError if the text has a character that is not printable."""
    if not text.isprintable():
        raise WarehouseError("a setting of the lake has characters that are not printable. Check BANKSTREAM_S3_*.")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
