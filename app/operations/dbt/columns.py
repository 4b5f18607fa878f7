"""Maps a column of PostgreSQL to its column in the warehouse: the name, the type, and the SQL that reads it from a record."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from app.postgres.catalogue import INTEGERS, numeric_size
from sinks.sql import identifier

MOST_DIGITS: Final = 38
"""The maximum precision of Snowflake's NUMBER."""
MONEY_SCALE, MONEY_DIGITS = 2, 18

_POSITION: Final = frozenset({
    "source_topic", "source_partition", "source_offset", "source_lsn", "source_tx_id", "committed_at", "recorded_at",
})  # fmt: skip
OF_CHANGES: Final = _POSITION | frozenset({
    "operation", "ends_snapshot", "row_image", "highest_lsn_before", "taken_lsn", "ended_at", "truncated_lsn",
})  # fmt: skip
"""Columns that the models of changes and of current rows add to those of the table, including intermediate ones."""
OF_VERSIONS: Final = _POSITION | frozenset({
    "record_partition", "record_offset", "operation", "version_id", "valid_from", "valid_to", "reason", "changed", "attributes",
})  # fmt: skip
"""Columns of a model of version records. The model also has the key columns of the table."""

RESERVED: Final = frozenset({
    "all", "alter", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "between", "both", "by", "case", "cast",
    "check", "collate", "column", "connect", "constraint", "create", "cross", "current", "current_catalog", "current_date",
    "current_role", "current_schema", "current_time", "current_timestamp", "current_user", "default", "deferrable", "delete", "desc",
    "describe", "distinct", "do", "drop", "else", "end", "except", "exists", "false", "fetch", "following", "for", "foreign", "from",
    "full", "grant", "group", "having", "ilike", "in", "increment", "initially", "inner", "insert", "intersect", "into", "is", "isnull",
    "join", "lambda", "lateral", "leading", "left", "like", "limit", "localtime", "localtimestamp", "minus", "natural", "not",
    "notnull", "null", "of", "offset", "on", "only", "or", "order", "outer", "overlaps", "pivot", "pivot_longer", "pivot_wider",
    "placing", "primary", "qualify", "references", "regexp", "returning", "revoke", "right", "rlike", "row", "rows", "sample", "select",
    "session_user", "set", "show", "similar", "some", "start", "summarize", "symmetric", "table", "tablesample", "then", "to",
    "trailing", "trigger", "true", "try_cast", "union", "unique", "unpivot", "update", "user", "using", "values", "variadic", "when",
    "whenever", "where", "window", "with",
})  # fmt: skip
"""Words that Snowflake or the local warehouse rejects as an unquoted column name."""

_TIMESTAMP: Final = re.compile(r"timestamp(\(\d\))? with(out)? time zone", re.ASCII)


@dataclass(frozen=True, slots=True)
class WarehouseType:
    """A column type. `data_type` is the type in the model's contract; `read` returns the SQL that reads it at a path of a record."""

    data_type: str
    read: Callable[[str], str]


def _macro(name: str) -> Callable[[str], str]:
    return lambda path: f"{{{{ {name}('{path}') }}}}"


def _cast(data_type: str) -> Callable[[str], str]:
    return lambda path: f"try_cast({path}::varchar as {data_type})"


INTEGER: Final = WarehouseType("number(38,0)", _macro("integer"))
MONEY: Final = WarehouseType("number(18,2)", _macro("money"))
DAY: Final = WarehouseType("date", _macro("day"))
INSTANT: Final = WarehouseType("timestamp_ntz", _macro("utc"))
TRUTH: Final = WarehouseType("boolean", _cast("boolean"))
FLOAT: Final = WarehouseType("float", _cast("float"))
TEXT: Final = WarehouseType("varchar", lambda path: f"{path}::varchar")


def warehouse_type(source_type: str) -> WarehouseType:
    """Returns the type for a type of PostgreSQL, given as `format_type` writes it. Types without an entry here keep the text exactly as
    Debezium sent it: text, varchar, char, uuid, json, jsonb, numeric without precision, arrays, enumerations and the rest.

    >>> warehouse_type("numeric(9,6)").data_type, warehouse_type("numeric(18,2)") is MONEY, warehouse_type("jsonb") is TEXT
    ('number(9,6)', True, True)
    """
    if source_type in INTEGERS:
        return INTEGER
    if size := numeric_size(source_type):
        return _number(*size)
    if source_type == "date":
        return DAY
    if _TIMESTAMP.fullmatch(source_type):
        return INSTANT
    if source_type in ("boolean", "bit(1)"):
        return TRUTH
    return FLOAT if source_type in ("double precision", "real") else TEXT


def warehouse_names(columns: Iterable[str], key: Iterable[str]) -> Mapping[str, str]:
    """Returns the columns' names in the warehouse, by their names in the source. A column keeps its name; an underscore is appended where
    the name is a reserved word or the name of a column that the models add. The result leaves out columns whose name needs quotes, and
    columns whose names differ only in case. Their values are in the landing tables only.

    >>> dict(warehouse_names(["id", "order", "Since", "a b", "x", "X"], ["id"]))
    {'id': 'id', 'order': 'order_', 'Since': 'Since'}
    """
    keys = frozenset(key)
    names = {
        column: name
        for column in columns
        if (name := _name(column, OF_CHANGES | OF_VERSIONS if column in keys else OF_CHANGES))
    }
    said = Counter(name.lower() for name in names.values())
    return {column: name for column, name in names.items() if said[name.lower()] == 1}


def path(parent: str, column: str) -> str:
    """Returns the path of a column in a record, quoted unless the name is plain and in lower case. ValueError if the name is not plain."""
    plain = identifier(column) == column.lower() and column not in RESERVED
    return f"{parent}:{column}" if plain else f'{parent}:"{column}"'


def _name(column: str, taken: frozenset[str]) -> str:
    try:
        plain = identifier(column)
    except ValueError:
        return ""
    return f"{plain}_" if column.lower() in RESERVED | taken else plain


def _number(precision: int, scale: int) -> WarehouseType:
    if scale == MONEY_SCALE and precision <= MONEY_DIGITS:
        return MONEY
    if scale < 0:  # PostgreSQL rounds to tens, hundreds, …
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    if precision > MOST_DIGITS:
        return TEXT
    return WarehouseType(f"number({precision},{scale})", _cast(f"number({precision}, {scale})"))
