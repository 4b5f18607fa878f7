"""Checks ops/snowflake without an account: syntax, options, privileges, and that each name is created before its use.

sqlglot parses the statements of Snowflake that it supports. Statements that it passes through unparsed (roles, users, pipes, grants on
future objects) are checked with the grammar below, taken from Snowflake's reference, so that every statement is checked.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from app.operations.provision.warehouse import landing_tables
from sinks.relations import LEDGER
from tests.support.catalogue import CATALOGUE

SYSTEM_ROLES = {"ACCOUNTADMIN", "SECURITYADMIN", "SYSADMIN", "USERADMIN"}
NAME = r"[A-Z_][A-Z0-9_$]*"
PATH = rf"{NAME}(?:\.{NAME})*"
TEXT = r"'(?:[^']|'')*'"

OPTIONS = {
    "WAREHOUSE": {"WAREHOUSE_SIZE", "AUTO_SUSPEND", "AUTO_RESUME", "INITIALLY_SUSPENDED", "STATEMENT_TIMEOUT_IN_SECONDS", "COMMENT"},
    "DATABASE": {"DATA_RETENTION_TIME_IN_DAYS", "COMMENT"},
    "STORAGE INTEGRATION": {
        "TYPE", "STORAGE_PROVIDER", "ENABLED", "STORAGE_AWS_ROLE_ARN", "STORAGE_ALLOWED_LOCATIONS", "STORAGE_BLOCKED_LOCATIONS", "COMMENT",
    },
    "STAGE": {"URL", "STORAGE_INTEGRATION", "FILE_FORMAT", "COMMENT"},
    "USER": {"TYPE", "DEFAULT_ROLE", "DEFAULT_WAREHOUSE", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2", "COMMENT"},
    "ROLE": {"COMMENT"},
    "SCHEMA": {"DATA_RETENTION_TIME_IN_DAYS", "COMMENT"},
    "PIPE": {"AUTO_INGEST", "AWS_SNS_TOPIC", "ERROR_INTEGRATION", "COMMENT"},
}  # fmt: skip
PRIVILEGES = {
    "ACCOUNT": {"CREATE DATABASE", "CREATE WAREHOUSE", "CREATE ROLE", "MONITOR USAGE"},
    "WAREHOUSE": {"USAGE", "OPERATE", "MONITOR", "MODIFY"},
    "DATABASE": {"USAGE", "MONITOR", "CREATE SCHEMA"},
    "SCHEMA": {"USAGE", "MONITOR", "CREATE TABLE", "CREATE VIEW", "CREATE STAGE", "CREATE PIPE", "CREATE FILE FORMAT"},
    "TABLE": {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"},
    "VIEW": {"SELECT", "REFERENCES"},
    "STAGE": {"USAGE", "READ", "WRITE"},
    "FILE FORMAT": {"USAGE"},
    "INTEGRATION": {"USAGE"},
    "PIPE": {"MONITOR", "OPERATE"},
}
"""Privileges by kind of object. OWNERSHIP and ALL are not allowed, because no role needs them."""

CREATE = re.compile(
    rf"CREATE (OR REPLACE )?({'|'.join((*OPTIONS, 'TABLE', 'VIEW'))}) (IF NOT EXISTS )?({PATH})\b(.*)", re.DOTALL
)
OPTION = re.compile(rf"\s*({NAME})\s*=\s*({TEXT}|\((?:[^()']|{TEXT})*\)|[A-Z0-9_.]+)")
GRANT_ROLE = re.compile(rf"GRANT ROLE ({NAME}) TO (ROLE|USER) ({NAME})")
GRANT = re.compile(
    rf"GRANT ([A-Z ,]+?) ON (?:(FUTURE|ALL) ([A-Z ]+?)S IN SCHEMA ({PATH})|(ACCOUNT)|([A-Z ]+?) ({PATH})) TO ROLE ({NAME})"
)
ALTER_USER = re.compile(rf"ALTER USER ({NAME}) SET (.*)")
PIPED = re.compile(rf"COPY INTO ({PATH}) .*?FROM \(SELECT .*? FROM @({PATH})/([a-z0-9.-]+)/\)", re.DOTALL)  # noqa: S608 - a pattern

STREAMED = re.compile(
    rf"COPY INTO ({PATH}) \(record\) FROM \(SELECT \$1:record FROM TABLE\(DATA_SOURCE\(TYPE => 'STREAMING'\)\)\)"  # noqa: S608 - a pattern
)


@dataclass
class Account:
    """The objects that the statements so far have created, by kind, and the grants: (privilege, kind, object, role)."""

    made: dict[str, set[str]] = field(default_factory=dict)
    grants: set[tuple[str, str, str, str]] = field(default_factory=set)
    piped: dict[str, str] = field(default_factory=dict)
    """Landing table by topic."""
    streamed: dict[str, str] = field(default_factory=dict)
    """Landing table by pipe of Snowpipe Streaming."""

    def has(self, kind: str, name: str) -> bool:
        """Whether such an object exists."""
        return name in self.made.get(kind, set()) or (kind == "ROLE" and name in SYSTEM_ROLES)


def statements(text: str, variables: Mapping[str, str]) -> Iterator[str]:
    """The statements of a file with its variables substituted. KeyError for a missing variable."""
    filled = re.sub(r"<% (\w+) %>", lambda found: variables[found[1]], text)
    assert "<%" not in filled, "a variable is written otherwise"
    yield from _split(filled)


def check(files: Iterable[str], variables: Mapping[str, str], account: Account) -> list[str]:
    """Checks these files in order and returns the errors. Adds the created objects to `account`."""
    database = variables["database"]
    # `bankstream provision warehouse` creates these tables between the files.
    for table in (*landing_tables(CATALOGUE), LEDGER):
        account.made.setdefault("TABLE", set()).add(f"{database}.BRONZE.{table}")
    account.made.setdefault("STAGE", set()).add(f"{database}.BRONZE.LAKE")
    return [
        f"{' '.join(statement.split())[:80]}: {wrong}"
        for text in files
        for statement in statements(text, variables)
        for wrong in _wrong(statement, account)
    ]


def _split(text: str) -> list[str]:
    """Splits at semicolons outside quotes and comments."""
    bare = re.sub(rf"({TEXT})|--[^\n]*", lambda found: found[1] or "", text)
    return [part.strip() for part in re.split(rf";(?=(?:[^']|{TEXT})*\Z)", bare) if part.strip()]


@cache
def _parsed(statement: str) -> exp.Expr:
    return sqlglot.parse_one(statement, dialect="snowflake")


def _wrong(statement: str, account: Account) -> Iterator[str]:
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it logs a warning for each statement that it passes through
    try:
        parsed = _parsed(statement)
        yield from _meaning(statement, parsed, account)
    except SqlglotError as error:
        yield f"cannot be parsed: {error}"


def _meaning(statement: str, parsed: exp.Expr, account: Account) -> Iterator[str]:
    flat = " ".join(statement.split())
    if flat.startswith("CREATE "):
        yield from _create(statement, account)
    elif flat.startswith("GRANT "):
        yield from _grant(flat, account)
    elif flat.startswith("USE ROLE "):
        if not account.has("ROLE", flat.removeprefix("USE ROLE ")):
            yield "nobody made this role"
    elif found := ALTER_USER.fullmatch(flat):
        yield from _options("USER", found[2], account)
    elif isinstance(parsed, exp.Describe):
        if not account.has("STORAGE INTEGRATION", flat.removeprefix("DESC INTEGRATION ")):
            yield "nobody made this integration"
    elif found := re.fullmatch(rf"SHOW PIPES IN SCHEMA ({PATH})", flat):
        if not account.has("SCHEMA", found[1]):
            yield "nobody made this schema"
    else:
        yield "a statement of a kind that is not expected here"


def _create(statement: str, account: Account) -> Iterator[str]:
    found = CREATE.fullmatch(statement)
    if found is None:
        yield "no CREATE of a known kind with a plain name"
        return
    replace, kind, careful, name, rest = found.groups()
    if replace or not careful:
        yield "must be IF NOT EXISTS: the file may be run again, and what is there must stay"
    parent = name.rpartition(".")[0]
    if parent and not account.has("SCHEMA" if parent.count(".") else "DATABASE", parent):
        yield f"nobody made {parent}"
    if kind == "PIPE":
        head, _, copy = rest.partition(" AS\n")
        yield from _options(kind, head, account)
        yield from _piped(name, copy.strip(), account)
    elif kind == "SCHEMA":
        if "WITH MANAGED ACCESS" not in rest:
            yield "a schema must be WITH MANAGED ACCESS"
        yield from _options(kind, rest.replace("WITH MANAGED ACCESS", ""), account)
    elif kind == "VIEW":
        yield from _tables_read(rest, account)
    elif kind != "TABLE":
        yield from _options(kind, rest, account)
    account.made.setdefault(kind, set()).add(name)


def _options(kind: str, text: str, account: Account) -> Iterator[str]:
    """Parses NAME = value, …. Each name must be known, and nothing else is allowed."""
    end = 0
    for found in OPTION.finditer(text):
        if text[end : found.start()].strip():
            break
        end = found.end()
        name, value = found.groups()
        if name not in OPTIONS[kind]:
            yield f"{kind} has no option {name}"
        if value == "''":
            yield f"{name} is empty"
        for option, of in (
            ("DEFAULT_ROLE", "ROLE"),
            ("DEFAULT_WAREHOUSE", "WAREHOUSE"),
            ("STORAGE_INTEGRATION", "STORAGE INTEGRATION"),
        ):
            if name == option and not account.has(of, value):
                yield f"nobody made {value}"
    if text[end:].strip():
        yield f"cannot be read from here on: {text[end:].strip()[:40]}"


def _grant(flat: str, account: Account) -> Iterator[str]:
    if found := GRANT_ROLE.fullmatch(flat):
        if not account.has("ROLE", found[1]) or not account.has(found[2], found[3]):
            yield "nobody made one of the two"
        return
    found = GRANT.fullmatch(flat)
    if found is None:
        yield "no GRANT that can be read"
        return
    privileges, _, plural, schema, whole, single, name, role = found.groups()
    kind, of = plural or whole or single, schema or name or "ACCOUNT"
    if kind not in PRIVILEGES:
        yield f"there are no objects of kind {kind}"
        return
    for privilege in privileges.split(", "):
        if privilege not in PRIVILEGES[kind]:
            yield f"{kind} has no privilege {privilege}"
        account.grants.add((privilege, kind, of, role))
    if not account.has("ROLE", role):
        yield f"nobody made role {role}"
    made_as = {"INTEGRATION": "STORAGE INTEGRATION"}.get(kind, kind)
    if not whole and not account.has("SCHEMA" if schema else made_as, of):
        yield f"nobody made {of}"


def _piped(name: str, copy: str, account: Account) -> Iterator[str]:
    if not isinstance(_parsed(copy), exp.Copy):
        yield "a pipe is a COPY"
    if streamed := STREAMED.fullmatch(" ".join(copy.split())):
        account.streamed[name.rpartition(".")[2]] = streamed[1].rpartition(".")[2]
        if not account.has("TABLE", streamed[1]):
            yield f"nobody made {streamed[1]}"
        return
    found = PIPED.match(copy)
    if found is None:
        yield "a pipe copies from one topic's folder of the stage into its table"
        return
    table, stage, topic = found.groups()
    if not account.has("TABLE", table):
        yield f"nobody made {table}"
    if not account.has("STAGE", stage):
        yield f"nobody made {stage}"
    if topic not in CATALOGUE.by_name:
        yield f"there is no topic {topic}"
    account.piped[topic] = table.rpartition(".")[2]


def _tables_read(rest: str, account: Account) -> Iterator[str]:
    query = _parsed(rest.partition(" AS\n")[2])
    for table in query.find_all(exp.Table):
        if not account.has("TABLE", table.sql(dialect="snowflake")):
            yield f"nobody made {table.sql(dialect='snowflake')}"
