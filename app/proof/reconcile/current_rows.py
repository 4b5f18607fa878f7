"""Renders the query for a table's current rows in the warehouse from dbt's macros, limited to the changes that a snapshot sees.

The folder `macros` here is dbt/macros, the only definition of current rows. Two relations of dbt are replaced: the raw changes also get
the decoded unqueryable ones (unqueryable_changes.py), and the dead letters are read from their landing table, because silver may be older.
A change that the PostgreSQL snapshot does not see is left out before current_rows.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from app.config.topics import DEAD_LETTERS
from app.postgres import XID_MODULUS
from app.proof.reconcile.source import PostgresSnapshot, Table
from sinks.relations import relation

FILES: Final = ("types", "landed_records", "captured_changes", "accepted_changes", "current_rows")
LONG_BEFORE_US: Final = 3_600_000_000
"""A change committed this long before the snapshot is visible, regardless of its transaction id: 32-bit ids wrap, and clocks may be set."""

BOUND: Final = "select parse_json(column1) as record from values {rows}"
WITH_BOUND: Final = "(select record from {landed} union all /* bound */)"
LETTERS: Final = "(select {position} from ({records}) as letters)"

ROWS: Final = """
    select
        row_number() over (order by {order}) as place,
        to_json(row_image) as row_image
    from (
        {living}
    ) as living
"""

VISIBLE: Final = """(
    select *
    from (
        select
            captured.*,
            -- how far the transaction is before (negative) or after the first one that had not begun yet
            mod(source_tx_id - {xmax} + {modulus} + {half}, {modulus}) - {half} as tx_distance,
            {key}
        from (
            {captured}
        ) as captured
    ) as measured
    where
        (
            tx_distance is null
            -- rows that the connector read in a snapshot of its own: that began before ours if its transaction did
            or (tx_distance < 0 and (operation = 'r' or tx_distance not in ({in_progress})))
            or committed_at < to_timestamp_ntz({long_before_us}, 6)
        )
        and {loaded}
)"""


def current_rows(
    database: str,
    table: Table,
    snapshot: PostgresSnapshot,
    last_offsets: Mapping[int, int] | None = None,
    bound: int = 0,
) -> str:
    """Returns the query for a table's rows as the snapshot's transactions left them: `place` in key order, and the row as JSON.

    `last_offsets`: the last offset of each partition that can belong to the snapshot; None: all landed records. `bound`: the number of
    records that are bound as parameters in addition to the landed ones, each as JSON.
    """
    sources = {name: relation(database, name.upper()) for name in ("cdc_events", "dead_letters")}
    if bound:
        sources["cdc_events"] = WITH_BOUND.format(landed=sources["cdc_events"])
    macros = _macros(tuple(sources.items()))
    declared, names = table.declared, [f"key_{number}" for number, _ in enumerate(table.key)]
    columns = [
        macros.key_value("captured.row_image", column.name, column.kind) + f" as {name}"
        for column, name in zip(table.key, names, strict=True)
    ]
    visible = VISIBLE.format(
        captured=macros.captured_changes(declared.name, declared.key),
        key=", ".join(columns),
        xmax=snapshot.xmax % XID_MODULUS,
        modulus=XID_MODULUS,
        half=XID_MODULUS // 2,
        in_progress=", ".join(str(transaction - snapshot.xmax) for transaction in snapshot.in_progress) or "0",
        long_before_us=snapshot.taken_us - LONG_BEFORE_US,
        loaded=_up_to(last_offsets),
    )
    query = ROWS.format(
        order=", ".join(column.warehouse_order(name) for column, name in zip(table.key, names, strict=True)),
        living=macros.current_rows(visible, ", ".join(names), declared.whole_snapshots),
    )
    if not bound:
        return query
    values = BOUND.format(rows=", ".join(["(%s)"] * bound))
    return query.replace("%", "%%").replace("/* bound */", values)


def _up_to(last_offsets: Mapping[int, int] | None) -> str:
    if last_offsets is None:
        return "true"
    cases = " ".join(f"when {partition} then {offset}" for partition, offset in sorted(last_offsets.items()))
    return f"source_offset <= case source_partition {cases} else -1 end" if cases else "false"


@cache
def _macros(sources: tuple[tuple[str, str], ...]) -> Any:
    """Loads dbt's macros over these relations. Provides only those functions of dbt that the macros use."""
    folder = files("app.proof.reconcile") / "macros"
    text = "\n".join((folder / f"{name}.sql").read_text(encoding="utf-8") for name in FILES)
    relations = dict(sources)

    def ref(model: str) -> str:
        assert model == "dead_letters", model
        records = module.landed_records("dead_letters", DEAD_LETTERS.name)
        return LETTERS.format(position=module.refused_position("record_value"), records=records)

    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - SQL, not HTML
    given = {"source": lambda _name, table: relations[table], "ref": ref, "is_incremental": lambda: False}
    module: Any = environment.from_string(text, given).module
    return module
