"""Runs a trace from a row of a model, or a record of a topic, to the changes in PostgreSQL's log that it was made from."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from app.config.settings import KafkaSettings, S3Settings, SnowflakeSettings, SourceSettings, read
from app.config.topics import read_catalogue
from app.engine.dead_letters import DeadLetter
from app.errors import BankstreamError, one_line
from app.proof.trace import derivation, models, values
from app.proof.trace.derivation import Derived, Opened
from app.proof.trace.lake import LakeReader
from app.proof.trace.log import KafkaReader
from app.proof.trace.models import MODELS, Model
from app.proof.trace.record import Proven, Records, whole_chain
from app.proof.trace.record_position import RecordPosition
from app.proof.trace.report import Check, Step, Trace, differs, judged, noted
from app.proof.trace.source import SourceLog
from app.proof.trace.tables import WarehouseTables
from app.runtime.progress import OnProgress
from sinks.base import SinkError
from sinks.reading import MissingObjectError, NamedRow
from sinks.sessions import open_store


class TraceError(BankstreamError):
    """The trace cannot start: the table or the row does not exist, or the warehouse does not answer."""


def trace(
    environment: Mapping[str, str],
    table: str,
    key: str,
    *,
    version: int | None = None,
    whole_chains: bool = False,
    on_progress: OnProgress = lambda _text: None,
) -> Trace:
    """Traces a row of a model, or a record of a landed topic (`table` is its name, `key` its partition/offset).

    `key` identifies a row of the model (`Model.read_key`). For a dimension it may also be the id of a version, and `version` selects a
    version by its number (None: the newest). `whole_chains` reads every object of the chains involved. Differences and places that do
    not answer are part of the result.
    """
    return asyncio.run(_trace(environment, table, key, version, on_progress, whole_chains=whole_chains))


async def _trace(
    environment: Mapping[str, str],
    table: str,
    key: str,
    version: int | None,
    on_progress: OnProgress,
    *,
    whole_chains: bool,
) -> Trace:
    began = time.monotonic()
    catalogue = read_catalogue(environment)
    landing, traceable = catalogue.landing, models.traceable(catalogue.tables)
    if table not in traceable and table not in landing:
        raise TraceError(f"{table!r} cannot be traced. What can: {', '.join((*traceable, *landing))}")
    on_progress("opening a session with the warehouse")
    tables: WarehouseTables | SinkError
    try:
        tables = await asyncio.to_thread(WarehouseTables, read(SnowflakeSettings, environment), landing)
    except SinkError as error:
        tables = error
    store = open_store(read(S3Settings, environment))
    try:
        async with KafkaReader(read(KafkaSettings, environment)) as log:
            records = Records(tables, landing, LakeReader(store), log)
            way = _Tracer(records, landing, SourceLog(read(SourceSettings, environment)), on_progress)
            if table in landing:
                top = await way.record(_position(table, key))
            elif isinstance(tables, SinkError):
                raise TraceError(str(tables))
            else:
                top = await _Rows(tables, way).trace(traceable[table], key, version)
            if whole_chains:
                on_progress("reading whole chains")
                chains = [await whole_chain(store, chain) for chain in records.chains()]
                top = Step(top.name, top.place, top.checks, (*top.steps, *chains))
    finally:
        await store.close()
        if isinstance(tables, WarehouseTables):
            await asyncio.to_thread(tables.close)
    return Trace(table, key, top.verdict, top, round(time.monotonic() - began, 3))


class _Tracer:
    """Traces a record to the change that it was made from."""

    def __init__(self, records: Records, landed: Collection[str], source: SourceLog, on_progress: OnProgress) -> None:
        """`landed`: the topics that land in the warehouse."""
        self._records, self._landed, self._source, self._on_progress = records, landed, source, on_progress

    async def record(self, position: RecordPosition) -> Step:
        """Traces any record of a landed topic."""
        if derivation.is_captured(position.topic):
            return await self.change(position)
        return (await self.derived(position))[0]

    async def derived(self, position: RecordPosition, name: str = "record") -> tuple[Step, Derived | None]:
        """Traces a derived record: its places, and the change that it comes from."""
        self._on_progress(f"tracing {position}")
        proven = await self._records.prove(position)
        try:
            record = derivation.read_derived(position.topic, proven.value or b"")
        except ValueError as error:
            checks = () if proven.value is None else (differs(str(error)),)
            return Step(name, str(position), checks, proven.steps), None
        steps = [*proven.steps, await self._origin(position.topic, record)]
        for place in derivation.evidence(record):
            evidence = await self.change(place)
            steps.append(Step("evidence", evidence.place, evidence.checks, evidence.steps))
        return Step(name, str(position), steps=tuple(steps)), record

    async def change(self, position: RecordPosition, record: Derived | None = None, topic: str = "") -> Step:
        """Traces a raw change: its places and its state in PostgreSQL. Checks `record` of `topic`, which was made from it, against it."""
        self._on_progress(f"tracing {position}")
        proven = await self._records.prove(position)
        change, problem = self.decoded(position, proven)
        if change is None:
            return Step("change", str(position), tuple(problem), proven.steps)
        checks = [] if record is None else derivation.checks(topic, record, change)
        in_source = Step("PostgreSQL", change.table, tuple(await asyncio.to_thread(self._source.check, change)))
        return Step("change", str(position), tuple(checks), (*proven.steps, in_source))

    async def proven(self, position: RecordPosition) -> Proven:
        """Checks the places of a record only."""
        return await self._records.prove(position)

    @staticmethod
    def decoded(position: RecordPosition, proven: Proven) -> tuple[Any, list[Check]]:
        """Returns the change in a checked record, or the checks that say why there is none."""
        if proven.found is None or proven.found.line is None:
            return None, []
        try:
            return derivation.read_change(position, proven.value), []
        except ValueError as error:
            return None, [noted(f"not a row change: {error}")]

    async def _origin(self, topic: str, record: Derived) -> Step:
        position = derivation.origin(record)
        if position.topic not in self._landed:
            return Step("origin", str(position), (noted("this topic is not archived"),))
        if not isinstance(record, DeadLetter):
            return await self.change(position, record, topic)
        proven = await self._records.prove(position)
        checks = () if proven.found is None else (derivation.refused(record, proven.value),)
        return Step("refused record", str(position), checks, proven.steps)


class _Rows:
    """Traces a row of a model to the records that it was made from."""

    def __init__(self, tables: WarehouseTables, way: _Tracer) -> None:
        self._tables, self._way = tables, way

    async def trace(self, model: Model, key: str, version: int | None) -> Step:
        """Traces the row with this key."""
        row, checks = await asyncio.to_thread(self._row, model, key, version)
        if model.kind == "version":
            return await self._version(model, row, checks)
        if model.kind == "row":
            return await self._changed(model, row, checks)
        return await self._recorded(model, row, checks)

    def _row(self, model: Model, key: str, version: int | None) -> tuple[NamedRow, list[Check]]:
        rows = self._rows(model, self._named(model, key))
        if version is not None:
            rows = [row for row in rows if row.get("version_number") == version]
        if not rows:
            raise TraceError(
                f"{model.relation} has no row with {', '.join(self._named(model, key))} {key}"
                + (f" and version {version}" if version else "")
            )
        unique = [model.version_key] if model.version_key else model.columns
        twins = sum(all(row[column] == rows[0][column] for column in unique) for row in rows)
        double = twins > 1 and model.relation != "GOLD.FCT_VELOCITY"
        return rows[0], [differs(f"{twins} rows have {_place(rows[0], unique)}")] if double else []

    def _rows(self, model: Model, key: Mapping[str, object]) -> list[NamedRow]:
        """Returns the rows of a model with these values, the newest first."""
        try:
            return self._tables.model(model.relation, key, model.newest)
        except MissingObjectError as error:
            raise TraceError(
                f"{model.relation} cannot be read: {one_line(error)}. Build the models first: make dbt"
            ) from None
        except SinkError as error:
            raise TraceError(f"{model.relation} cannot be read: {one_line(error)}") from None

    @staticmethod
    def _named(model: Model, key: str) -> dict[str, int | str]:
        """Returns the columns and values of a key. For a model of versions, a text that is not a key is the id of a version."""
        try:
            return dict(model.read_key(key))
        except ValueError as error:
            if model.version_key:
                return {model.version_key: key}
            raise TraceError(str(error)) from None

    async def _version(self, model: Model, row: NamedRow, checks: list[Check]) -> Step:
        version_id = str(row[model.version_key])
        try:
            places = await asyncio.to_thread(self._tables.version, model.topic, version_id)
        except SinkError as error:
            raise TraceError(f"the landing table of {model.topic} cannot be read: {error}") from None
        wanted = ["open"] if row["valid_to"] is None else ["open", "close"]
        found = sorted((operation for operation, _ in places), reverse=True)
        checks.append(
            judged(
                found == wanted,
                f"it was made from one {' and one '.join(wanted)} record",
                f"it needs one {' and one '.join(wanted)} record; landed are: {', '.join(found) or 'none'}",
            )
        )
        expected: dict[str, Any] = (
            {} if "close" in wanted else dict.fromkeys(("valid_to", "close_reason", *_lineage(None, "close_")))
        )
        steps = []
        for operation, position in places:
            step, record = await self._way.derived(position, f"{operation} record")
            steps.append(step)
            if isinstance(record, Opened):
                expected |= values.plain(record.attributes) | {
                    "attributes": values.plain(record.attributes), **record.key, model.version_key: record.version_id,
                    "valid_from": record.valid_from, "open_reason": record.reason, **_lineage(record, ""),
                }  # fmt: skip
            elif record is not None and operation == "close":
                expected |= {
                    "valid_to": getattr(record, "valid_to", None), "close_reason": getattr(record, "reason", None),
                    **_lineage(record, "close_"),
                }  # fmt: skip
        checks.append(_columns(row, expected))
        name = f"{_place(row, model.columns)}, version {row['version_number']}, {version_id}"
        return Step(model.relation, name, tuple(checks), tuple(steps))

    async def _changed(self, model: Model, row: NamedRow, checks: list[Check]) -> Step:
        position = RecordPosition(str(row["source_topic"]), int(row["source_partition"]), int(row["source_offset"]))
        step = await self._way.change(position)
        change, _ = self._way.decoded(position, await self._way.proven(position))
        if change is not None:
            image = change.after if change.after is not None else change.before
            row_image = values.plain(image or {})
            expected = {name: row_image[column] for column, name in model.named(row_image).items()}
            expected |= {"source_lsn": change.lsn, "source_tx_id": change.tx_id}
            checks.append(_columns(row, expected))
        if model.relation == "GOLD.FCT_TRANSACTIONS":
            checks += [
                await asyncio.to_thread(self._joined, row, MODELS[name]) for name in ("dim_account", "dim_customer")
            ]
        return Step(model.relation, _place(row, model.columns), tuple(checks), (step,))

    def _joined(self, row: NamedRow, dimension: Model) -> Check:
        """Checks that the version joined to a fact belongs to its account or customer and was valid at its booking time."""
        version_id = row[dimension.version_key]
        if version_id is None:
            return noted(f"it was joined to no version of {dimension.relation}")
        found = self._rows(dimension, {dimension.version_key: version_id})
        fits = len(found) == 1 and (
            found[0][dimension.column] == row[dimension.column]
            and found[0]["joins_from"] <= row["booked_at"] < found[0]["joins_to"]
        )
        return judged(
            fits,
            f"{dimension.relation} {version_id} is the version at its booking time",
            f"{dimension.relation} {version_id} is not the version at its booking time",
        )

    async def _recorded(self, model: Model, row: NamedRow, checks: list[Check]) -> Step:
        position = RecordPosition(model.topic, int(row["record_partition"]), int(row["record_offset"]))
        step, record = await self._way.derived(position)
        proven = await self._way.proven(position)
        if record is not None and proven.value is not None:
            whole = values.parsed(proven.value)
            expected = whole | _lineage(record, "")
            rows = [row]
            if "windows" in whole:
                rows = [
                    one
                    for one in await asyncio.to_thread(self._rows, model, {model.column: row[model.column]})
                    if (one["record_partition"], one["record_offset"]) == (position.partition, position.offset)
                ]
                names = sorted(one["window_name"] for one in rows)
                checks.append(
                    judged(
                        names == sorted(whole["windows"]),
                        f"it has a row for each of the {len(names)} windows",
                        f"its rows are of the windows {', '.join(names)}",
                    )
                )
            checks += [_columns(one, expected | _window(whole, one)) for one in rows]
        return Step(model.relation, _place(row, model.columns), tuple(checks), (step,))


def _columns(row: NamedRow, expected: Mapping[str, Any]) -> Check:
    wrong = values.differing(row, expected)
    compared = len(row.keys() & expected.keys())
    of = f" of window {row['window_name']}" if "window_name" in row else ""
    return judged(
        not wrong,
        f"{compared} columns{of} equal their source values",
        f"columns{of} that differ from their source values: {', '.join(wrong)}",
    )


def _place(row: NamedRow, columns: Iterable[str]) -> str:
    return ", ".join(f"{column} {row[column]}" for column in columns)


def _lineage(record: Any, prefix: str) -> dict[str, Any]:
    """Returns the columns of a model that name the change that a record comes from."""
    names = ("topic", "partition", "offset", "lsn", "tx_id")
    return {f"{prefix}source_{name}": None if record is None else getattr(record.source, name) for name in names}


def _window(record: Mapping[str, Any], row: NamedRow) -> dict[str, Any]:
    window = record.get("windows", {}).get(row.get("window_name"))
    if window is None:
        return {}
    return {
        "transaction_count": window["count"], "amount_sum": window["sum"], "amount_average": window["average"],
        "amount_max": window["max"], "measures": window, "seconds_since_previous": row["seconds_since_previous"],
    }  # fmt: skip


def _position(topic: str, key: str) -> RecordPosition:
    partition, _, offset = key.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise TraceError(f"{key!r} is not a record of {topic}: use partition/offset, as in 2/1047")
    return RecordPosition(topic, int(partition), int(offset))
