"""Generates the SQL of a captured table's models in schema SILVER: its changes, its current rows and its version records.

The models of the bank's own three tables in dbt/models/silver are the output of this module.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from app.config.topics import scd2_topic
from app.domain.captured import CapturedTable
from app.operations.dbt.columns import RESERVED, path, warehouse_names, warehouse_type
from app.postgres.catalogue import SourceColumn
from sinks.sql import identifier, literal

SINGULAR: Final = {"customers": "customer", "accounts": "account", "transactions": "transaction"}
"""The singular that the models of the bank's own tables use in their names. Other models use the table's name."""

CONFIG: Final = "{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}"
LINEAGE: Final = ("source_topic", "source_partition", "source_offset", "source_lsn", "source_tx_id", "committed_at")
CHANGE: Final = (*LINEAGE, "recorded_at", "operation", "ends_snapshot")
NO_SNAPSHOT: Final = {"ends_snapshot": "false as ends_snapshot"}


@dataclass(frozen=True, slots=True)
class SilverTable:
    """A captured table and the columns that its models have."""

    table: CapturedTable
    columns: tuple[SourceColumn, ...]
    """The source's columns that have a name in the warehouse, in the source's order."""
    left_out: tuple[str, ...]
    """The source's columns that have no name in the warehouse."""
    names: Mapping[str, str]
    """The columns' names in the warehouse, by their names in the source."""

    @classmethod
    def of(cls, table: CapturedTable, columns: Iterable[SourceColumn]) -> "SilverTable":
        """Returns the table with its columns in the source. ValueError if a column of the key has no name in the warehouse."""
        found = tuple(columns)
        names = warehouse_names([column.name for column in found], table.key)
        if missing := sorted(table.key.keys() - names.keys()):
            raise ValueError(
                f"{', '.join(map(repr, missing))} of its primary key needs quotes, or differs from another column only in case"
            )
        return cls(
            table,
            tuple(column for column in found if column.name in names),
            tuple(column.name for column in found if column.name not in names),
            names,
        )

    @property
    def key(self) -> list[str]:
        """The names of the key columns in the warehouse."""
        return [self.names[column] for column in self.table.key]

    @property
    def typed(self) -> list[tuple[str, str]]:
        """The names of the columns in the warehouse, each with its type in the contract."""
        return [(self.names[column.name], warehouse_type(column.type).data_type) for column in self.columns]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a table's models. `version_records` is None for a table without versions."""

    changes: str
    current: str
    version_records: str | None

    @classmethod
    def of(cls, table: CapturedTable) -> "Names":
        """Returns the names, made from the table's name. If that is a reserved word, the model of current rows appends an underscore."""
        name = identifier(table.name)
        stem = SINGULAR.get(name, name)
        current = f"{name}_" if name in RESERVED else name
        return cls(f"{stem}_changes", current, f"{stem}_version_records" if table.versions else None)

    @property
    def all(self) -> tuple[str, ...]:
        """The names of the models that exist."""
        return tuple(name for name in (self.changes, self.current, self.version_records) if name is not None)


def sql(silver: SilverTable) -> dict[str, str]:
    """Returns the SQL of a table's models, by model name."""
    names = Names.of(silver.table)
    made = {names.changes: _changes(silver), names.current: _current(silver, names.changes)}
    if names.version_records is not None:
        made[names.version_records] = _version_records(silver)
    return made


def landing_name(table: CapturedTable) -> str:
    """Returns the name that dbt's sources give the landing table of the version records."""
    return f"scd2_{identifier(table.name)}"


def _changes(silver: SilverTable) -> str:
    # a snapshot that leaves rows out does not show which rows were deleted
    change = [name if silver.table.whole_snapshots else NO_SNAPSHOT.get(name, name) for name in CHANGE]
    read = [
        f"{warehouse_type(column.type).read(path('row_image', column.name))} as {silver.names[column.name]}"
        for column in silver.columns
    ]
    return lines(
        CONFIG,
        "",
        "with changes as (",
        f"    {{{{ captured_changes('{silver.table.name}', {_kinds(silver)}) | indent(4) }}}}",
        ")",
        "",
        *_select([*change, *read]),
        "from changes",
    )


def _current(silver: SilverTable, changes: str) -> str:
    return lines(
        "with living as (",
        f"    {{{{ current_rows(ref('{changes}'), '{', '.join(silver.key)}') | indent(4) }}}}",
        ")",
        "",
        *_select([*(silver.names[column.name] for column in silver.columns), *LINEAGE]),
        "from living",
    )


def _version_records(silver: SilverTable) -> str:
    renamed = {column: silver.names[column] for column in silver.table.key if silver.names[column] != column}
    names = f", {{{', '.join(f'{one!r}: {other!r}' for one, other in renamed.items())}}}" if renamed else ""
    topic = literal(scd2_topic(silver.table).name)
    return lines(
        CONFIG,
        "",
        f"{{{{ version_records('{landing_name(silver.table)}', {topic}, {_kinds(silver)}{names}) }}}}",
    )


def _kinds(silver: SilverTable) -> str:
    """Returns the key in the form that the macros expect: the name of one integer column, or the kinds of the columns by source name."""
    key = silver.table.key
    if [*key.values()] == ["integer"]:
        return f"'{next(iter(key))}'"
    return f"{{{', '.join(f'{identifier(column)!r}: {kind!r}' for column, kind in key.items())}}}"


def _select(columns: list[str]) -> Iterator[str]:
    yield "select"
    for number, column in enumerate(columns, 1):
        yield f"    {column}{',' if number < len(columns) else ''}"


def lines(*found: str) -> str:
    """Returns the lines joined as the text of a file."""
    return "\n".join(found) + "\n"
