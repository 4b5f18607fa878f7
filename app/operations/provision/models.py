"""Generates the dbt models of declared tables from PostgreSQL's catalogue, as files of the dbt project.

Each generated file begins with a line that says so. A file without that line is not generated: it is left unchanged and is reported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from app.config.settings import SourceSettings
from app.config.topics import Catalogue
from app.domain.captured import CapturedTable
from app.errors import BankstreamError, one_line
from app.operations.dbt.contracts import contracts, landing_source
from app.operations.dbt.silver import Names, SilverTable, landing_name, sql
from app.postgres import as_reader
from app.postgres.catalogue import SourceTable, shown, source_tables

MARK: Final = (
    "Made by `bankstream provision models`, which writes it again. Without this line it leaves the file alone."
)
SQL_HEADER: Final = f"{{#- {MARK} -#}}\n"
YAML_HEADER: Final = f"# {MARK}\n"
SILVER, BRONZE = Path("models/silver"), Path("models/bronze")
OWN: Final = frozenset({
    "account_changes", "account_snapshots", "account_version_records", "accounts", "customer_360", "customer_changes",
    "customer_snapshots", "customer_version_records", "customers", "dead_letters", "dead_letters_by_reason", "dim_account",
    "dim_customer", "fct_alerts", "fct_transaction_states", "fct_transactions", "fct_velocity", "transaction_changes",
    "transaction_records", "transactions", "volume_per_minute",
})  # fmt: skip
"""The models and snapshots that the project ships."""
CONNECT_TIMEOUT_S: Final = 10


class ModelsError(BankstreamError):
    """The models of a declared table cannot be generated from the table, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Written:
    """The result for each file, by its name inside the project."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Files that are not generated, and so were left unchanged."""
    undeclared: list[str] = field(default_factory=list)
    """Files that were generated for a table that is no longer declared, and still exist."""


def provision(catalogue: Catalogue, settings: SourceSettings, project: Path) -> Written:
    """Writes the models of the declared tables into a dbt project. ModelsError, before any write, if a table cannot have models."""
    if not (project / "dbt_project.yml").is_file():
        raise ModelsError(f"there is no dbt project in {project}. Name its folder with --project.")
    found = _ask(settings, [table.name for table in catalogue.declared]) if catalogue.declared else {}
    return write(project, files_of_all(catalogue.declared, found))


def files_of_all(tables: Iterable[CapturedTable], found: Mapping[str, SourceTable]) -> dict[Path, str]:
    """Returns the files of several tables. ModelsError as for `files`, and if two tables would have the same file."""
    wanted: dict[Path, str] = {}
    for table in tables:
        made = files(table, found.get(table.name))
        if twice := sorted(path.name for path in made.keys() & wanted.keys()):
            raise ModelsError(
                f"table {table.name} and another table would both have {', '.join(twice)}. Rename one of them."
            )
        wanted |= made
    return wanted


def files(table: CapturedTable, found: SourceTable | None) -> dict[Path, str]:
    """Returns a table's files and their contents. ModelsError if the table differs from its declaration, or if a model's name is taken."""
    if found is None:
        raise ModelsError(
            f"table {table.name} is declared as captured, but does not exist in schema public. Create it, or remove it from the file that "
            "BANKSTREAM_TABLES_FILE names."
        )
    if [*table.key.items()] != [*found.key.items()]:
        raise ModelsError(
            f"table {table.name} is declared with key = {shown(table.key)}, but its primary key is {shown(found.key)}. Correct the "
            "declaration, or the table."
        )
    names = Names.of(table)
    if taken := sorted(OWN.intersection(names.all)):
        raise ModelsError(
            f"table {table.name} would have the model {', '.join(taken)}, which already exists in the project. Rename the table."
        )
    try:
        silver = SilverTable.of(table, found.columns)
    except ValueError as error:
        raise ModelsError(f"table {table.name} cannot have models: {error}. Rename the column.") from None
    made = {SILVER / f"{name}.sql": SQL_HEADER + text for name, text in sql(silver).items()}
    made |= {SILVER / f"{name}.yml": YAML_HEADER + text for name, text in contracts(silver).items()}
    if table.versions:
        made[BRONZE / f"{landing_name(table)}.yml"] = YAML_HEADER + landing_source(table)
    return made


def write(project: Path, wanted: Mapping[Path, str]) -> Written:
    """Writes the files that differ. ModelsError if a file cannot be read or written."""
    done = Written()
    try:
        for name, text in sorted(wanted.items()):
            before = _text(project / name)
            if before == text:
                done.unchanged.append(str(name))
            elif before is not None and not _is_made(before):
                done.left.append(str(name))
            else:
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                (project / name).write_text(text, encoding="utf-8")
                done.written.append(str(name))
        there = {path.relative_to(project) for folder in (SILVER, BRONZE) for path in (project / folder).iterdir()}
        done.undeclared.extend(
            str(name) for name in sorted(there - wanted.keys()) if _is_made(_text(project / name) or "")
        )
    except OSError as error:
        raise ModelsError(
            f"{error.filename} cannot be written: {error.strerror}. Name another project with --project."
        ) from None
    return done


def _ask(settings: SourceSettings, names: Iterable[str]) -> Mapping[str, SourceTable]:
    try:
        with as_reader(settings, connect_timeout=CONNECT_TIMEOUT_S, application_name="bankstream provision") as session:
            return source_tables(session, names)
    except psycopg.Error as error:
        raise ModelsError(
            f"the columns of the tables cannot be read from PostgreSQL at {settings.host}:{settings.port}: {one_line(error)}. Check "
            "BANKSTREAM_POSTGRES_*."
        ) from None


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _is_made(text: str) -> bool:
    return text.startswith((SQL_HEADER, YAML_HEADER))
