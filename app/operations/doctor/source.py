"""Checks PostgreSQL with the reader's account: tables, publication, privileges, slot and heartbeat."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from app.config.captured_tables import OWN_TABLES
from app.config.settings import SourceSettings
from app.config.topics import Catalogue
from app.domain.captured import CapturedTable, KeyType
from app.operations.doctor.findings import Finding
from app.operations.provision.migrations import Migration, shipped
from app.operations.provision.source import HEARTBEAT, PUBLICATION
from app.postgres import as_reader, lsn_text
from app.postgres.catalogue import shown, source_tables

CONNECT_TIMEOUT_S: Final = 10
HEARTBEAT_AGE_S: Final = 60
SLOT_LAG_BYTES: Final = 256 << 20
WRITING: Final = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
OPERATIONS: Final = ("insert", "update", "delete", "truncate")

Privilege = tuple[str, str, str]
"""A role, a table, and the privilege."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The objects in PostgreSQL that capture needs."""

    wal_level: str
    identities: Mapping[str, str]
    """The replica identity of each captured table that exists, as PostgreSQL's letter; f is full."""
    published: frozenset[str] | None
    """Tables of the publication; None: there is no publication."""
    operations: frozenset[str] = frozenset(OPERATIONS)
    filtered: frozenset[str] = frozenset()
    """Published tables with a row filter or a column list."""
    migrations: Mapping[int, str] | None = None
    """The checksums of the applied migrations by version; None: the table of applied migrations does not exist."""
    keys: Mapping[str, Mapping[str, KeyType]] = field(default_factory=dict)
    """The primary keys of the captured tables that exist, in the form of a declaration."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles and their privileges."""

    logins: Mapping[str, tuple[bool, bool]]
    """For each role that exists, whether it may log in and whether it may replicate."""
    held: frozenset[Privilege] = frozenset()


@dataclass(frozen=True, slots=True)
class Slot:
    """The replication slot. LSNs are byte positions in the WAL."""

    right_kind: bool
    active: bool
    wal_status: str
    confirmed_lsn: int
    lag_bytes: int
    safe_bytes: int | None
    """The bytes of WAL that may be written before the slot is lost; None: no limit."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """The slot, and the age of the last heartbeat."""

    slot: Slot | None
    heartbeat_age_s: float | None
    """None: there is no heartbeat row."""


@contextmanager
def reading(settings: SourceSettings) -> Iterator[psycopg.Connection[Any]]:
    """Opens a read-only session of the reader's account."""
    with as_reader(
        settings, connect_timeout=CONNECT_TIMEOUT_S, application_name="bankstream doctor", autocommit=True,
        options="-c statement_timeout=30s -c default_transaction_read_only=on",
    ) as connection:  # fmt: skip
        yield connection


def tables(connection: psycopg.Connection[Any], captured: Iterable[CapturedTable]) -> Tables:
    """Reads the facts for `judge_tables`."""
    names = [table.name for table in captured]
    (level,) = _row(connection, "SHOW wal_level")
    identities = connection.execute(
        "SELECT relname, relreplident::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)",
        [[*names, HEARTBEAT]],
    ).fetchall()
    publication = connection.execute(
        "SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = %s", [PUBLICATION]
    ).fetchone()
    published = connection.execute(
        "SELECT p.tablename, p.rowfilter IS NOT NULL OR cardinality(p.attnames) < (SELECT count(*) FROM pg_attribute WHERE attrelid = "
        "format('%%I.%%I', p.schemaname, p.tablename)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '') "
        "FROM pg_publication_tables p WHERE pubname = %s",
        [PUBLICATION],
    ).fetchall()
    migrations: dict[int, str] | None = None
    if _row(connection, "SELECT to_regclass('public.schema_migrations') IS NOT NULL")[0]:
        migrations = dict(connection.execute("SELECT version, sha256 FROM schema_migrations").fetchall())
    return Tables(
        wal_level=level,
        identities=dict(identities),
        published=None if publication is None else frozenset(name for name, _ in published),
        operations=frozenset(name for name, on in zip(OPERATIONS, publication or (), strict=False) if on),
        filtered=frozenset(name for name, hidden in published if hidden),
        migrations=migrations,
        keys={name: table.key for name, table in source_tables(connection, names).items()},
    )


def judge_tables(found: Tables, captured: Sequence[CapturedTable], migrations: Iterable[Migration]) -> list[Finding]:
    """Returns the findings about tables, publication and migrations."""
    names = [table.name for table in captured]
    findings: list[Finding] = []
    if found.wal_level != "logical":
        findings.append(Finding("source-wal-level", "PostgreSQL", f"wal_level is {found.wal_level}"))
    findings += [
        Finding("table-missing", table, f"table {table} does not exist")
        for table in (*names, HEARTBEAT)
        if table not in found.identities
    ]
    findings += [
        Finding(
            "primary-key",
            table.name,
            f"{table.name} is declared with key = {shown(table.key)}, its primary key is {shown(found.keys[table.name])}",
        )
        for table in captured
        if table.name in found.keys and [*found.keys[table.name].items()] != [*table.key.items()]
    ]
    findings += [
        Finding(
            "replica-identity",
            table,
            f"the replica identity of {table} is {found.identities[table]!r}, not 'f' (full)",
            f"ALTER TABLE {table} REPLICA IDENTITY FULL; earlier changes stay incomplete: bankstream reconcile shows the differences",
        )
        for table in names
        if found.identities.get(table, "f") != "f"
    ]
    findings += _judge_migrations(found.migrations, migrations)
    findings += _judge_publication(found, frozenset((*names, HEARTBEAT)))
    return findings


def _judge_migrations(applied: Mapping[int, str] | None, migrations: Iterable[Migration]) -> list[Finding]:
    wanted = {migration.version: migration for migration in migrations}
    have = applied or {}
    problems = [f"{wanted[version].name} is not applied" for version in sorted(wanted.keys() - have.keys())]
    problems += [f"version {version} was applied by a newer program" for version in sorted(have.keys() - wanted.keys())]
    problems += [
        f"{wanted[version].name} has changed since it was applied"
        for version in sorted(wanted.keys() & have.keys())
        if have[version] != wanted[version].sha256
    ]
    return [Finding("source-migrations", "migrations", "; ".join(problems))] if problems else []


def _judge_publication(found: Tables, wanted: frozenset[str]) -> list[Finding]:
    if found.published is None:
        return [Finding("publication-missing", PUBLICATION, f"there is no publication {PUBLICATION}")]
    findings: list[Finding] = []
    statement = f"ALTER PUBLICATION {PUBLICATION} SET TABLE {', '.join(sorted(wanted))}"
    missing, extra = sorted(wanted - found.published), sorted(found.published - wanted)
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"also has {', '.join(extra)}"] * bool(extra)
        more = (
            ". Then bankstream reconcile: only a snapshot recovers rows changed before that (stop Connect, drop the slot, start Connect)"
            if missing
            else ""
        )
        findings.append(
            Finding(
                "publication-tables", PUBLICATION, f"publication {PUBLICATION} {' and '.join(parts)}", statement + more
            )
        )
    if absent := [operation for operation in OPERATIONS if operation not in found.operations]:
        findings.append(Finding("publication-operations", PUBLICATION, f"it does not publish {', '.join(absent)}"))
    findings += [
        Finding("publication-filter", table, f"only part of table {table} is published", statement)
        for table in sorted(found.filtered)
    ]
    return findings


def needed(settings: SourceSettings, captured: Iterable[str]) -> frozenset[Privilege]:
    """Returns the privileges that the roles need."""
    tables = (*captured, HEARTBEAT)
    return frozenset(
        {
            (settings.user, table, privilege)
            for table in OWN_TABLES
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
        }
        | {(role, table, "SELECT") for role in (settings.replication_user, settings.reader_user) for table in tables}
        | {(settings.replication_user, f"{HEARTBEAT}.beat_at", "UPDATE")}
    )


def roles(connection: psycopg.Connection[Any], settings: SourceSettings, captured: Iterable[str]) -> Roles:
    """Reads the facts for `judge_roles`."""
    names = [settings.user, settings.replication_user, settings.reader_user]
    logins = {
        name: (login, replicates)
        for name, login, replicates in connection.execute(
            "SELECT rolname, rolcanlogin, rolreplication OR rolsuper FROM pg_roles WHERE rolname = ANY(%s)", [names]
        ).fetchall()
    }
    held = connection.execute(
        "SELECT role, relname::text, privilege FROM unnest(%s::text[]) role, pg_class, unnest(%s::text[]) privilege "
        "WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s) AND has_table_privilege(role, pg_class.oid, privilege)",
        [[*logins, "public"], ["SELECT", *WRITING], [*captured, HEARTBEAT]],
    ).fetchall()
    beats = connection.execute(
        "SELECT role FROM unnest(%s::text[]) role, pg_class WHERE oid = to_regclass(%s) "
        "AND has_column_privilege(role, oid, 'beat_at', 'UPDATE')",
        [list(logins), f"public.{HEARTBEAT}"],
    ).fetchall()
    return Roles(
        logins, frozenset({*map(tuple, held), *((role, f"{HEARTBEAT}.beat_at", "UPDATE") for (role,) in beats)})
    )


def judge_roles(found: Roles, settings: SourceSettings, captured: Iterable[str]) -> list[Finding]:
    """Returns the findings about roles and privileges."""
    findings: list[Finding] = []
    for role in (settings.user, settings.replication_user, settings.reader_user):
        login, replicates = found.logins.get(role, (None, None))
        if login is None:
            findings.append(Finding("role-missing", role, f"there is no role {role}"))
        elif not login or (role == settings.replication_user and not replicates):
            lacks = "LOGIN" if not login else "REPLICATION"
            findings.append(Finding("role-missing", role, f"role {role} lacks {lacks}"))
    lacking: dict[tuple[str, str], list[str]] = {}
    for role, table, privilege in sorted(needed(settings, captured) - found.held):
        if role in found.logins:
            lacking.setdefault((role, table), []).append(privilege)
    findings += [
        Finding("privilege-missing", role, f"{role} lacks {', '.join(privileges)} on {table}")
        for (role, table), privileges in lacking.items()
    ]
    readers = (settings.replication_user, settings.reader_user)
    excess = sorted(
        (role, table, privilege)
        for role, table, privilege in found.held
        if role == "public" or (role in readers and privilege in WRITING and "." not in table)
    )
    findings += [
        Finding("privilege-excess", role, f"{'everybody' if role == 'public' else role} has {privilege} on {table}")
        for role, table, privilege in excess
    ]
    return findings


def streaming(connection: psycopg.Connection[Any], slot_name: str) -> Streaming:
    """Reads the facts for `judge_streaming`."""
    row = connection.execute(
        "SELECT slot_type = 'logical' AND plugin = 'pgoutput' AND database = current_database(), active, coalesce(wal_status, 'unknown'), "
        "coalesce(confirmed_flush_lsn - '0/0', 0)::bigint, coalesce(pg_current_wal_lsn() - confirmed_flush_lsn, 0)::bigint, safe_wal_size "
        "FROM pg_replication_slots WHERE slot_name = %s",
        [slot_name],
    ).fetchone()
    age: float | None = None
    if _row(connection, "SELECT to_regclass('public.heartbeat') IS NOT NULL")[0]:
        beat = connection.execute(
            "SELECT extract(epoch FROM now() - beat_at)::float FROM heartbeat WHERE id = 1"
        ).fetchone()
        age = None if beat is None else beat[0]
    return Streaming(None if row is None else Slot(*row), age)


def judge_streaming(found: Streaming, slot_name: str) -> list[Finding]:
    """Returns the findings about the slot and the heartbeat."""
    findings: list[Finding] = []
    slot = found.slot
    if slot is None:
        findings.append(Finding("slot-missing", slot_name, f"PostgreSQL has no replication slot {slot_name}"))
    elif not slot.right_kind:
        findings.append(Finding("slot-kind", slot_name, f"slot {slot_name} is not a pgoutput slot of this database"))
    elif slot.wal_status == "lost":
        findings.append(
            Finding(
                "slot-lost",
                slot_name,
                f"slot {slot_name} is lost: WAL after {lsn_text(slot.confirmed_lsn)} was removed before it was read",
            )
        )
    else:
        if not slot.active:
            findings.append(
                Finding(
                    "slot-inactive",
                    slot_name,
                    f"slot {slot_name} has no reader; {slot.lag_bytes:,} bytes after {lsn_text(slot.confirmed_lsn)} are not read",
                )
            )
        if slot.wal_status == "unreserved":
            findings.append(
                Finding("slot-unreserved", slot_name, f"slot {slot_name} needs WAL that the next checkpoint removes")
            )
        elif slot.lag_bytes > SLOT_LAG_BYTES or slot.wal_status == "extended":
            left = "" if slot.safe_bytes is None else f"; the slot is lost after {slot.safe_bytes:,} more bytes"
            findings.append(
                Finding(
                    "slot-behind", slot_name, f"{slot.lag_bytes:,} bytes of WAL in slot {slot_name} are not read{left}"
                )
            )
    if found.heartbeat_age_s is None:
        findings.append(Finding("heartbeat-still", HEARTBEAT, "there is no heartbeat row"))
    elif found.heartbeat_age_s > HEARTBEAT_AGE_S:
        findings.append(
            Finding("heartbeat-still", HEARTBEAT, f"the last heartbeat was {found.heartbeat_age_s:.0f} s ago")
        )
    return findings


def check_tables(settings: SourceSettings, catalogue: Catalogue) -> list[Finding]:
    """Checks tables, publication and migrations."""
    captured = catalogue.tables
    with reading(settings) as connection:
        return judge_tables(tables(connection, captured), captured, shipped())


def check_roles(settings: SourceSettings, catalogue: Catalogue) -> list[Finding]:
    """Checks roles and privileges."""
    captured = [table.name for table in catalogue.tables]
    with reading(settings) as connection:
        return judge_roles(roles(connection, settings, captured), settings, captured)


def check_streaming(settings: SourceSettings, slot_name: str) -> list[Finding]:
    """Checks the slot and the heartbeat."""
    with reading(settings) as connection:
        return judge_streaming(streaming(connection, slot_name), slot_name)


def _row(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(row)
