"""Reads the columns and primary keys of captured tables from PostgreSQL's catalogue. Any account that may connect can read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from app.domain.captured import KeyType
from app.operations.dbt.columns import key_kind
from app.operations.dbt.silver import SourceColumn

QUERY: Final = """
    SELECT c.relname::text, a.attname::text, array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum),
        format_type(coalesce(nullif(t.typbasetype, 0), t.oid), CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END)
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    JOIN pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY (%s)
    ORDER BY c.relname, a.attnum
"""
"""Generated columns are left out, because they are not replicated. A domain counts as its base type, as in the connector."""


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


def shown(key: Mapping[str, KeyType]) -> str:
    """Returns a key as the tables' file writes it; `none` for a table without a key.

    >>> shown({"branch": "text", "number": "integer"})
    '{ branch = "text", number = "integer" }'
    """
    columns = [f'{column} = "{kind}"' for column, kind in key.items()]
    return f"{{ {', '.join(columns)} }}" if columns else "none"
