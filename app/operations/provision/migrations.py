"""Applies versioned migrations: each SQL file once, in order, in a transaction, and recorded with its checksum."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import psycopg

from app.errors import one_line
from app.operations.provision.errors import MigrationError

DIRECTORY: Final[Traversable] = files("app.operations.provision") / "migrations"
LOCK: Final = 0x62616E6B  # "bank": a number that no other program uses for an advisory lock in this database
LOCK_TIMEOUT_S: Final = 60
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration file, `NNNN_name.sql`."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The checksum that schema_migrations stores."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped(directory: Traversable = DIRECTORY) -> tuple[Migration, ...]:
    """Returns the migrations of a directory in order. MigrationError if the versions are not 1, 2, 3, …"""
    found = sorted(
        (
            Migration(int(match[1]), file.name, file.read_text(encoding="utf-8"))
            for file in directory.iterdir()
            if (match := _NAME.fullmatch(file.name))
        ),
        key=lambda migration: migration.version,
    )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(
            f"the migrations in {directory} are not numbered 0001, 0002, …: {', '.join(m.name for m in found)}"
        )
    return tuple(found)


def lock(connection: psycopg.Connection[Any]) -> None:
    """Takes an advisory lock against other provisioning of this database until the connection closes. MigrationError on a timeout."""
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    except psycopg.errors.LockNotAvailable:
        raise MigrationError(
            f"another program has held the provisioning lock of database {connection.info.dbname} for {LOCK_TIMEOUT_S} s. "
            "Find it in pg_locks (locktype advisory), end it, and start again."
        ) from None


def migrate(connection: psycopg.Connection[Any], migrations: Sequence[Migration]) -> list[str]:
    """Applies the migrations that schema_migrations lacks. Returns their names. The connection is in autocommit mode and holds the lock.

    MigrationError, with nothing changed, if an applied file has changed since, or if the database is ahead of this program. A migration
    that fails is rolled back; those before it stay applied.
    """
    connection.execute(LEDGER)
    ledger = dict(connection.execute("SELECT version, sha256 FROM schema_migrations").fetchall())
    if ledger and max(ledger) > len(migrations):
        raise MigrationError(
            f"database {connection.info.dbname} has migration {max(ledger)}, this program has only {len(migrations)}. "
            "Run the newer version of the program that migrated it."
        )
    for migration in migrations:
        if migration.version in ledger and ledger[migration.version] != migration.sha256:
            raise MigrationError(
                f"{migration.name} was applied to database {connection.info.dbname} and has been changed since. Restore the file, "
                "and make the change in a new migration."
            )
    fresh = [migration for migration in migrations if migration.version not in ledger]
    for migration in fresh:
        _apply(connection, migration)
    return [migration.name for migration in fresh]


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES (%s, %s, %s)",
                [migration.version, migration.name, migration.sha256],
            )
    except psycopg.Error as error:
        raise MigrationError(
            f"{migration.name} failed in database {connection.info.dbname} and was rolled back: {one_line(error)}"
        ) from error
