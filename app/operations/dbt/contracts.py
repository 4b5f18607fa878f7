"""Generates the contracts, tests and descriptions of a captured table's models in schema SILVER, as dbt YAML.

Names are quoted because YAML reads `no` as false. Comments on the source's columns are not used, because dbt would evaluate Jinja in them.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from app.config.topics import cdc_topic, scd2_topic
from app.domain.captured import CapturedTable
from app.operations.dbt.columns import INTEGER, TEXT
from app.operations.dbt.silver import CHANGE, LINEAGE, Names, SilverTable, landing_name, lines
from sinks.sql import identifier

TYPES: Final = {
    "source_topic": "varchar", "source_partition": "number(38,0)", "source_offset": "number(38,0)", "source_lsn": "number(38,0)",
    "source_tx_id": "number(38,0)", "committed_at": "timestamp_ntz", "recorded_at": "timestamp_ntz", "operation": "varchar",
    "ends_snapshot": "boolean", "record_partition": "number(38,0)", "record_offset": "number(38,0)", "version_id": "varchar",
    "valid_from": "timestamp_ntz", "valid_to": "timestamp_ntz", "reason": "varchar", "changed": "variant", "attributes": "variant",
}  # fmt: skip
"""The types of the columns that the models add to those of the table."""
TEXTS: Final = {
    "version_id": "Identifies the version: a pure function of table, key and source position.",
    "reason": "Why the version began or ended.",
}
"""Descriptions of the added columns that dbt/models/columns.md does not describe."""
OPERATIONS: Final = ("operation", "{{ doc('operation') }}", "r, c, u, d, t")
OPEN_OR_CLOSE: Final = ("operation", "`open` begins a version, `close` ends it.", "open, close")
REASONS: Final = "created, updated, revived, key_changed, resnapshot, superseded, deleted, truncated, vanished"

_SHOWN: Final = re.compile(r"[A-Za-z0-9_ (),.\[\]]+", re.ASCII)


def contracts(silver: SilverTable) -> dict[str, str]:
    """Returns the YAML of a table's models, by model name."""
    names = Names.of(silver.table)
    made = {names.changes: _changes(silver, names.changes), names.current: _current(silver, names.current)}
    if names.version_records is not None:
        made[names.version_records] = _version_records(silver, names.version_records)
    return made


def landing_source(table: CapturedTable) -> str:
    """Returns a dbt source for the landing table of a table's version records. It has no freshness check: its rate of change is unknown."""
    return lines(
        "sources:",
        "  - name: bronze",
        "    schema: BRONZE",
        "    loader: app.warehouse",
        "    config:",
        '      loaded_at_field: "to_timestamp_ntz(record:ts::number(38, 0), 3)"',
        "    tables:",
        f"      - name: {landing_name(table)}",
        f"        description: Open and close records of the versions of {identifier(table.name)} ({scd2_topic(table).name}).",
        "        config: {freshness: null}",
    )


def _changes(silver: SilverTable, name: str) -> str:
    table, topic = silver.table, cdc_topic(silver.table).name
    tests = [*_never_null(CHANGE), *_unique_together(LINEAGE[:3])]
    tests += _test(
        "loaded_completely", "landing: cdc_events", f"topic: {topic}", f"key: {_kinds(table)}", "partition_column: source_partition",
        "offset_column: source_offset",
    )  # fmt: skip
    if table.versions:  # the streams worker reads, and so can reject, only tables with versions
        refused = ("letters: ref('dead_letters')", f"keys: {{{topic}: {_kinds(table)}}}")
        tests += _test("refused_is_a_dead_letter", *refused)
        tests += [*_test("refused_is_a_dead_letter", *refused, "wrapped: true"), "          config: {severity: warn}"]
    text = (
        f"Every change of the source table {identifier(table.name)}, typed, in the order of the log: one row for each change.",
        "Columns have the row after the change; for a delete, the deleted row; for a truncate, NULL.",
        "Incremental: a run adds the records loaded since the last run.",
    )
    return _model(name, text, tests, [*_ours(*CHANGE, accepted=OPERATIONS), *_theirs(silver)], len(silver.left_out))


def _current(silver: SilverTable, name: str) -> str:
    key = silver.key
    text = (
        f"The current rows of the source table {identifier(silver.table.name)}, each in the state after its last change.",
        "Derived from the raw changes alone, so that tests can compare it with the output of the streams worker.",
    )
    tests = [*_never_null([*key, *LINEAGE]), *_unique_together(key)]
    return _model(name, text, tests, [*_theirs(silver), *_ours(*LINEAGE)], len(silver.left_out))


def _version_records(silver: SilverTable, name: str) -> str:
    key, topic = silver.key, scd2_topic(silver.table).name
    head = ("record_partition", "record_offset", "recorded_at", "operation", "version_id")
    text = (
        f"The open and close records of {topic}, typed, one row for each record.",
        "Incremental: a run adds the records loaded since the last run.",
    )
    tests = [*_never_null([*head, *key, "valid_from", "reason", *LINEAGE]), *_unique_together(head[:2])]
    tests += _unique_together(["version_id", "operation"])
    tests += _test("loaded_completely", f"landing: {landing_name(silver.table)}", f"topic: {topic}")
    tests += _test("closes_an_open_version", f'key: "{", ".join(key)}"')
    columns = list(_ours(*head, accepted=OPEN_OR_CLOSE))
    for column, kind in silver.table.key.items():
        data_type = INTEGER.data_type if kind == "integer" else TEXT.data_type
        columns += _column(silver.names[column], data_type, "Column of the primary key of the row.", personal=True)
    columns += _ours("valid_from", "valid_to", "reason", accepted=("reason", TEXTS["reason"], REASONS))
    columns += _ours("changed")
    columns += _column("attributes", TYPES["attributes"], "{{ doc('attributes') }}", personal=True)
    return _model(name, text, tests, [*columns, *_ours(*LINEAGE)])


def _model(
    name: str, text: Iterable[str], tests: Iterable[str], columns: Iterable[str], left_out: int = 0
) -> str:  # fmt: skip
    if left_out:  # the number only: the names may contain anything
        text = (*text, f"Number of columns of the source that are only in bronze, because of their names: {left_out}.")
    return lines(
        "models:",
        f'  - name: "{name}"',
        "    description: >",
        *(f"      {line}" for line in text),
        "    data_tests:",
        *tests,
        "    columns:",
        *columns,
    )


def _theirs(silver: SilverTable) -> Iterator[str]:
    """Yields the table's columns. Each one counts as personal data."""
    for column, (name, data_type) in zip(silver.columns, silver.typed, strict=True):
        what = "Primary key column" if column.name in silver.table.key else "Column"
        source_type = f" Its type is {column.type}." if _SHOWN.fullmatch(column.type) else ""
        text = f"{what} `{identifier(column.name)}` of the source.{source_type}"
        yield from _column(name, data_type, text, personal=True)


def _ours(*names: str, accepted: tuple[str, str, str] = ("", "", "")) -> Iterator[str]:
    """Yields the columns that the models add. `accepted`: a column, its description and its accepted values."""
    for name in names:
        if name != accepted[0]:
            yield from _column(name, TYPES[name], TEXTS.get(name, f"{{{{ doc('{name}') }}}}"))
            continue
        yield from _column(name, TYPES[name], accepted[1])
        yield from ("        data_tests:", "          - accepted_values:", "              arguments:")
        yield f"                values: [{accepted[2]}]"


def _column(name: str, data_type: str, text: str, *, personal: bool = False) -> Iterator[str]:
    yield from (f'      - name: "{name}"', f"        data_type: {data_type}", f'        description: "{text}"')
    if personal:
        yield "        config: {meta: {pii: true}}"


def _kinds(table: CapturedTable) -> str:
    """Returns the key in the form that the macro `is_row_change` expects."""
    kinds = [f'"{identifier(column)}": {kind}' for column, kind in table.key.items()]
    return f"{{{', '.join(kinds)}}}"


def _test(name: str, *arguments: str) -> list[str]:
    return [f"      - {name}:", "          arguments:", *(f"            {argument}" for argument in arguments)]


def _never_null(columns: Iterable[str]) -> list[str]:
    return _test("never_null", f"columns: {_listed(columns)}")


def _unique_together(columns: Iterable[str]) -> list[str]:
    return _test("unique_together", f"columns: {_listed(columns)}")


def _listed(names: Iterable[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return f"[{', '.join(quoted)}]"
