"""Reads the columns and primary keys of tables from PostgreSQL's catalogue. Any account that may connect can read it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from app.domain.captured import KeyType

QUERY: Final = """
    WITH RECURSIVE resolved AS (
        SELECT c.relname AS relation, a.attname AS name, a.attnum AS number, a.atttypid AS type, a.atttypmod AS modifier,
            array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum) AS place
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY (%s)
        UNION ALL
        SELECT r.relation, r.name, r.number, t.typbasetype, t.typtypmod, r.place
        FROM resolved AS r
        JOIN pg_type AS t ON t.oid = r.type AND t.typtype = 'd'
    )
    SELECT r.relation::text, r.name::text, r.place, format_type(r.type, r.modifier)
    FROM resolved AS r
    JOIN pg_type AS t ON t.oid = r.type AND t.typtype <> 'd'
    ORDER BY r.relation, r.number
"""
"""Leaves out generated columns, because they are not replicated. A domain counts as the type at the end of its chain of domains, with the
length or scale that the last domain gives it, as in the connector. Columns of INCLUDE are not part of a primary key."""

INTEGERS: Final = frozenset({"smallint", "integer", "bigint", "oid"})
_NUMERIC: Final = re.compile(r"numeric\((\d+),(-?\d+)\)", re.ASCII)
_MODIFIER: Final = re.compile(r"\(\d+(,-?\d+)?\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column of the source. `type` is PostgreSQL's `format_type`; for a domain, its base type."""

    name: str
    type: str

    @property
    def plain_type(self) -> str:
        """The type without length, precision and scale.

        >>> [SourceColumn("it", name).plain_type for name in ("numeric(9,6)", "timestamp(3) with time zone", "bpchar")]
        ['numeric', 'timestamp with time zone', 'character']
        """
        # format_type writes CHAR without a length as bpchar, because CHARACTER alone means CHARACTER(1)
        return "character" if self.type == "bpchar" else _MODIFIER.sub("", self.type)

    @property
    def scale(self) -> int | None:
        """The scale of NUMERIC(p, s). None for every other type, and for NUMERIC without a precision."""
        found = numeric_size(self.type)
        return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as it is in the source. `key` is its primary key in the key's order, in the form of a declaration."""

    columns: tuple[SourceColumn, ...]
    key: Mapping[str, KeyType]


def source_tables(connection: psycopg.Connection[Any], names: Iterable[str]) -> Mapping[str, SourceTable]:
    """Returns the tables that exist in schema public, by name. psycopg.Error if the database does not answer."""
    columns: dict[str, list[SourceColumn]] = {}
    keys: dict[str, dict[int, SourceColumn]] = {}
    for table, name, place, source_type in connection.execute(QUERY, [[*names]]).fetchall():
        column = SourceColumn(name, source_type)
        columns.setdefault(table, []).append(column)
        key = keys.setdefault(table, {})
        if place is not None:
            key[place] = column
    return {
        table: SourceTable(
            tuple(found), {key.name: key_kind(key.type) for _, key in sorted(keys[table].items())}
        )
        for table, found in columns.items()
    }  # fmt: skip


def key_kind(source_type: str) -> KeyType:
    """Returns how the connector writes a key column of this type."""
    return "integer" if source_type in INTEGERS else "text"


def numeric_size(source_type: str) -> tuple[int, int] | None:
    """Returns precision and scale of NUMERIC(p, s); None for every other type.

    >>> numeric_size("numeric(9,6)"), numeric_size("numeric(3,-2)"), numeric_size("numeric"), numeric_size("character(3)")
    ((9, 6), (3, -2), None, None)
    """
    found = _NUMERIC.fullmatch(source_type)
    return None if found is None else (int(found[1]), int(found[2]))


def shown(key: Mapping[str, KeyType]) -> str:
    """Returns a key as the tables' file writes it; `none` for a table without a key.

    >>> shown({"branch": "text", "number": "integer"})
    '{ branch = "text", number = "integer" }'
    """
    columns = [f'{column} = "{kind}"' for column, kind in key.items()]
    return f"{{ {', '.join(columns)} }}" if columns else "none"
