"""Provisions the source database: roles, database, tables, privileges, and the publication that Debezium reads.

| role             | privileges and purpose                                                                       |
|------------------|----------------------------------------------------------------------------------------------|
| bank_owner       | owns the database and its tables; runs the migrations                                        |
| bank_app         | SELECT, INSERT, UPDATE, DELETE on the bank's tables; the bank's own software                 |
| bank_replication | REPLICATION, SELECT on the captured tables, UPDATE of the heartbeat's beat_at: the connector |
| bank_reader      | SELECT                                                                                       |

With an administrator in the settings, it creates the roles and the database and sets the passwords. Without one they must exist, as on
a bank's own server, and the owner's account does the rest. Passwords are sent as SCRAM verifiers, so that none can reach the server's log.
Provisioning is idempotent.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from pydantic import SecretStr

from app.config.settings import PostgresSettings, SourceSettings
from app.config.topics import Catalogue
from app.domain.captured import CapturedTable
from app.errors import one_line
from app.operations.provision.errors import SourceError
from app.operations.provision.migrations import lock, migrate, shipped
from app.postgres import log_in

PUBLICATION: Final = "bank"
HEARTBEAT: Final = "heartbeat"
"""The table is published with the captured tables. Its replica identity need not be full."""
APPLICATION: Final = "bankstream provision"
CONNECT_TIMEOUT_S: Final = 10
GENERATED_COLUMNS_COUNT: Final = 180_000
"""The first version of PostgreSQL in which a full replica identity includes generated columns."""

Connection = psycopg.Connection[Any]


def provision(settings: SourceSettings, catalogue: Catalogue) -> list[str]:
    """Sets up the source. Returns the migrations that it applied. SourceError says what is missing and which role has to provide it."""
    if settings.admin_user is not None:
        with _connect(settings, settings.admin_user, settings.admin_password, settings.admin_dbname) as connection:
            lock(connection)
            _make_roles(connection, settings)
            _make_database(connection, settings)
    with _connect(settings, settings.owner_user, settings.owner_password, settings.dbname) as connection:
        lock(connection)
        _check_roles(connection, settings)
        applied = migrate(connection, shipped())
        _grant(connection, settings)
        _capture_declared(connection, settings, catalogue.declared)
        _check_capture(connection, catalogue.tables)
    return applied


@contextmanager
def _connect(settings: PostgresSettings, user: str, password: SecretStr | None, dbname: str) -> Iterator[Connection]:
    try:
        connection = log_in(
            settings,
            user,
            password,
            dbname=dbname,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=APPLICATION,
            options="-c client_min_messages=warning",
            autocommit=True,
        )
    except psycopg.OperationalError as error:
        raise SourceError(
            f"PostgreSQL at {settings.host}:{settings.port}, database {dbname}, does not let {user} in: {one_line(error)}. Check "
            "BANKSTREAM_POSTGRES_*; roles and database have to exist unless BANKSTREAM_POSTGRES_ADMIN_USER is set to create them."
        ) from None
    with connection:
        yield connection


def _make_roles(connection: Connection, settings: SourceSettings) -> None:
    for name, password, attribute in (
        (settings.owner_user, settings.owner_password, "NOREPLICATION"),
        (settings.user, settings.password, "NOREPLICATION"),
        (settings.replication_user, settings.replication_password, "REPLICATION"),
        (settings.reader_user, settings.reader_password, "NOREPLICATION"),
    ):
        try:
            _make_role(connection, name, password, attribute)
        except psycopg.errors.InsufficientPrivilege as error:
            raise SourceError(
                f"{settings.admin_user} may not create or change role {name}: {error.diag.message_primary}. Let an administrator create it "
                "(app/operations/provision/source.py lists the roles), and unset BANKSTREAM_POSTGRES_ADMIN_USER."
            ) from None


def _make_role(connection: Connection, name: str, password: SecretStr | None, attribute: LiteralString) -> None:
    found = connection.execute("SELECT rolreplication, rolcanlogin FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    role = sql.Identifier(name)
    if found is None:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE {}").format(role, sql.SQL(attribute))
        )
    elif found != (attribute == "REPLICATION", True):
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN {}").format(role, sql.SQL(attribute)))
    if password is not None:
        verifier = connection.pgconn.encrypt_password(
            password.get_secret_value().encode(), name.encode(), b"scram-sha-256"
        ).decode()
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(verifier)))


def _make_database(connection: Connection, settings: SourceSettings) -> None:
    database, owner = sql.Identifier(settings.dbname), sql.Identifier(settings.owner_user)
    if connection.execute("SELECT FROM pg_database WHERE datname = %s", [settings.dbname]).fetchone() is None:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(database, owner)
        )
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    others = sql.SQL(", ").join(map(sql.Identifier, (settings.user, settings.replication_user, settings.reader_user)))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, others))


def _check_roles(connection: Connection, settings: SourceSettings) -> None:
    level = connection.execute("SHOW wal_level").fetchone()
    if level != ("logical",):
        raise SourceError(
            f"PostgreSQL at {settings.host}:{settings.port} has wal_level {level[0] if level else '?'}: Debezium needs logical. Set "
            "wal_level = logical (a managed service has a parameter for it, such as rds.logical_replication) and restart it."
        )
    wanted = {settings.user, settings.replication_user, settings.reader_user}
    rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(wanted)]).fetchall()
    if missing := sorted(wanted - {name for (name,) in rows}):
        raise SourceError(
            f"PostgreSQL at {settings.host}:{settings.port} has no role {', '.join(missing)}. Create them (the module "
            "app/operations/provision/source.py lists their privileges), or set BANKSTREAM_POSTGRES_ADMIN_USER to an administrator."
        )


def _grant(connection: Connection, settings: SourceSettings) -> None:
    """Runs privileges.sql with the roles' names in the place of psql's variables."""
    text = (files("app.operations.provision") / "privileges.sql").read_text(encoding="utf-8")
    for variable, name in (
        ("app", settings.user),
        ("replication", settings.replication_user),
        ("reader", settings.reader_user),
    ):
        text = text.replace(f':"{variable}"', sql.Identifier(name).as_string(connection))
    with connection.transaction():
        connection.execute(text.encode())


def _capture_declared(connection: Connection, settings: SourceSettings, declared: Iterable[CapturedTable]) -> None:
    """Makes the declared tables captured: replica identity, grants and publication. The bank creates the tables themselves."""
    for table in declared:
        name = sql.Identifier("public", table.name)
        if connection.execute("SELECT to_regclass(%s)", [f"public.{table.name}"]).fetchone() == (None,):
            raise SourceError(
                f"table {table.name} is declared as captured, but database {settings.dbname} has none in schema public that "
                f"{settings.owner_user} can see. Create it, or remove it from the file that BANKSTREAM_TABLES_FILE names."
            )
        _check_generated(connection, table.name)
        readers = sql.SQL(", ").join(map(sql.Identifier, (settings.replication_user, settings.reader_user)))
        published = connection.execute(
            "SELECT FROM pg_publication_tables WHERE pubname = %s AND schemaname = 'public' AND tablename = %s",
            [PUBLICATION, table.name],
        ).fetchone()
        try:
            with connection.transaction():
                connection.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(name))
                connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(name, readers))
                if published is None:
                    publication = sql.Identifier(PUBLICATION)
                    connection.execute(sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(publication, name))
        except psycopg.errors.InsufficientPrivilege as error:
            raise SourceError(
                f"{settings.owner_user} may not capture table {table.name}: {error.diag.message_primary}. It has to own the table."
            ) from None


def _check_generated(connection: Connection, table: str) -> None:
    """Raises SourceError if a table has unpublished generated columns. PostgreSQL rejects UPDATE and DELETE on a published table whose
    replica identity has columns that are not published. Generated columns are part of a full identity, but are published only on request.
    """
    if connection.info.server_version < GENERATED_COLUMNS_COUNT:
        return
    rows = connection.execute(
        "SELECT a.attname FROM pg_attribute AS a, pg_publication AS p WHERE a.attrelid = to_regclass(%s) AND NOT a.attisdropped "
        "AND p.pubname = %s AND a.attgenerated <> '' AND (a.attgenerated <> 's' OR p.pubgencols <> 's')",
        [f"public.{table}", PUBLICATION],
    ).fetchall()
    if rows:
        generated = ", ".join(name for (name,) in rows)
        raise SourceError(
            f"table {table} has the generated columns {generated}. While it is captured, PostgreSQL rejects updates and deletions. "
            f"Publish them (ALTER PUBLICATION {PUBLICATION} SET (publish_generated_columns = stored); virtual ones cannot be), or remove "
            "the table from the file that BANKSTREAM_TABLES_FILE names."
        )


def _check_capture(connection: Connection, captured_tables: Iterable[CapturedTable]) -> None:
    """Checks the publication and the replica identities: after a manual change to them, capture would lose changes silently."""
    rows = connection.execute(
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s ORDER BY 1", [PUBLICATION]
    ).fetchall()
    published = [name for (name,) in rows]
    tables = sorted(table.name for table in captured_tables)
    captured = ", ".join(sorted((*tables, HEARTBEAT)))
    if published != [f"public.{table}" for table in captured.split(", ")]:
        raise SourceError(
            f"publication {PUBLICATION} has {', '.join(published) or 'no tables'} instead of {captured}. Correct it: "
            f"ALTER PUBLICATION {PUBLICATION} SET TABLE {captured}"
        )
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s) AND relreplident <> 'f'",
        [tables],
    ).fetchall()
    if rows:
        table = rows[0][0]
        raise SourceError(
            f"table {table} has lost its full replica identity: changes would lack the row before the change. Correct it: "
            f"ALTER TABLE {table} REPLICA IDENTITY FULL"
        )
