"""Runs a rebuild: prepares a separate database, loads the lake into it, and compares every landing table with the first warehouse."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from app.config.settings import S3Settings, SnowflakeSettings, WarehouseSettings, read
from app.config.topics import Catalogue, read_catalogue
from app.errors import SettingsError
from app.operations.provision.warehouse import landing_tables
from app.proof.rebuild import contents, target
from app.proof.rebuild.loading import Loaded, Progress, load_all
from app.proof.rebuild.report import MAX_DIFFERENCES, RebuildError, Report, TableReport, Verdict
from app.runtime.progress import OnProgress
from sinks.base import ChainKey
from sinks.sessions import open_reader, open_store
from sinks.snowflake import SnowflakeWarehouse
from sinks.sql import identifier


def rebuild(
    environment: Mapping[str, str],
    into: str,
    *,
    compare: bool = True,
    on_progress: OnProgress = lambda _text: None,
    progress: Progress = lambda _done, _total: None,
) -> Report:
    """Loads database `into` from the lake alone, and compares it with the configured database.

    It does not read Kafka, PostgreSQL or (without `compare`) the first warehouse's data. Another run resumes an interrupted one.
    RebuildError if `into` contains other objects, SinkError if the lake or the warehouse does not answer.
    """
    began = time.monotonic()
    first, lake = read(SnowflakeSettings, environment), read(S3Settings, environment)
    catalogue = read_catalogue(environment)
    try:
        into = identifier(into).upper()
    except ValueError as error:
        raise SettingsError(f"{error}: use letters, digits and underscores") from None
    if into == first.database.upper():
        raise RebuildError(f"{into} is the warehouse itself (BANKSTREAM_SNOWFLAKE_DATABASE). Name another database")
    second = first.model_copy(update={"database": into})
    on_progress(f"preparing {into}")
    resumed = target.prepare(second, lake, catalogue)
    on_progress("loading")
    loaded = asyncio.run(_load(second, lake, catalogue, read(WarehouseSettings, environment), progress))
    if not loaded.broken:
        target.finished(second)
    on_progress("comparing")
    tables, differences, not_compared = _compare(first, second, landing_tables(catalogue), on_progress, compare=compare)
    verdict: Verdict = "incomplete" if loaded.broken else "not compared"
    if compare and not loaded.broken:
        verdict = "different" if differences else "equal"
    return Report(
        database=into,
        lake=target.lake_url(lake),
        compared_with=first.database if compare else None,
        verdict=verdict,
        tables=tables,
        objects=loaded.objects,
        resumed=resumed,
        broken={_name(key): reason for key, reason in loaded.broken.items()},
        differences=tuple(differences[:MAX_DIFFERENCES]),
        not_compared=tuple(not_compared),
        seconds=round(time.monotonic() - began, 3),
    )


async def _load(
    settings: SnowflakeSettings, lake: S3Settings, catalogue: Catalogue, loading: WarehouseSettings, progress: Progress
) -> Loaded:
    store, warehouse = open_store(lake), SnowflakeWarehouse(settings)
    try:
        loading = loading.model_copy(update={"load_interval_ms": 0})
        return await load_all(warehouse, store, catalogue.landing, loading, progress)
    finally:
        await warehouse.close()
        await store.close()


def _compare(
    first: SnowflakeSettings,
    second: SnowflakeSettings,
    landing_tables: Iterable[str],
    on_progress: OnProgress,
    *,
    compare: bool,
) -> tuple[dict[str, TableReport], list[str], list[str]]:
    """Compares the landing tables through the offsets that both have. Returns reports by table, differences, and chains not compared."""
    tables: dict[str, TableReport] = {}
    differences: list[str] = []
    not_compared: list[str] = []
    with ExitStack() as opened:
        reader = opened.enter_context(open_reader(second))
        limits = None
        if compare:
            there = contents.ends(opened.enter_context(open_reader(first)))
            here = contents.ends(reader)
            limits = contents.limits(there, here)
            differences += [
                f"{_name(key)} is loaded in the first, and is not in the lake"
                for key in sorted(there.keys() - here.keys())
            ]
            not_compared += [
                f"{_name(key)} is rebuilt through offset {last}, the first has loaded it through {there.get(key, -1)}"
                for key, last in sorted(here.items())
                if last > there.get(key, -1)
            ]
        for table in landing_tables:
            on_progress(f"comparing {table}")
            rebuilt = contents.content(reader, second.database, table, limits)
            rows, sha256 = contents.total(rebuilt)
            if not compare:
                tables[table] = TableReport(rows, sha256)
                continue
            original = contents.content(reader, first.database, table, limits)
            tables[table] = TableReport(rows, sha256, *contents.total(original))
            differences += [f"{table}: {found}" for found in contents.differences(original, rebuilt)]
    return tables, differences, not_compared


def _name(key: ChainKey) -> str:
    return f"{key.topic}/{key.topic_id}/{key.partition}"
