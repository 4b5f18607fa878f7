"""Runs all checks concurrently. They are independent: a part that is down does not prevent the other checks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from app.config.settings import (
    ConnectSettings,
    EngineSettings,
    KafkaSettings,
    S3Settings,
    SnowflakeSettings,
    SourceSettings,
    read,
)
from app.config.topics import LAKE_OBJECTS, read_catalogue
from app.errors import one_line
from app.operations.doctor import capture, kafka, lake, source
from app.operations.doctor.findings import CheckResult, Finding, Report
from app.operations.provision import topics
from app.operations.provision.connector import slot_name
from app.topology.partition_groups import STREAMS, groups
from sinks.gaps import gaps
from sinks.sessions import open_store

TIMEOUT_S: Final = 90
"""The limit of one check without `deep`."""
ATTEMPTS: Final = 2
"""Few attempts: the doctor reports a part that does not answer and does not wait for it."""
LAKE, WAREHOUSE = "bankstream-lake", "bankstream-warehouse"
"""Consumer groups. They are the names of the Faust apps, repeated here because importing the modules would create the apps."""

Check = Callable[[], Awaitable[list[Finding]]]


async def examine(variables: Mapping[str, str], *, deep: bool = False) -> Report:
    """Makes every check. `variables` override the environment. SettingsError if the settings are invalid."""
    found = await asyncio.gather(
        *(run_check(name, check, deep=deep) for name, check in checks(variables, deep=deep).items())
    )
    return Report(tuple(found))


def checks(variables: Mapping[str, str], *, deep: bool = False) -> dict[str, Check]:
    """Returns the checks by name, in the order of the report."""
    postgres, connect = read(SourceSettings, variables), read(ConnectSettings, variables)
    broker, engine = read(KafkaSettings, variables), read(EngineSettings, variables)
    s3 = read(S3Settings, variables).model_copy(update={"max_attempts": ATTEMPTS, "timeout_s": 10})
    sql = read(SnowflakeSettings, variables)
    catalogue = read_catalogue(variables)
    streams = groups(catalogue, broker)
    inputs = {topic for group in streams for topic in group.topics}
    return {
        "source tables": _in_thread(source.check_tables, postgres, catalogue),
        "source privileges": _in_thread(source.check_roles, postgres, catalogue),
        "source slot": _in_thread(source.check_streaming, postgres, slot_name()),
        "connector": _in_thread(capture.check_connector, connect, catalogue),
        "capture position": _in_thread(capture.check_position, connect, postgres),
        "capture history": partial(_history, broker, s3),
        "topics": partial(kafka.check_topics, broker, topics.specs(catalogue, streams, broker, engine)),
        "streams positions": partial(kafka.check_positions, broker, streams),
        "streams workers": partial(kafka.check_group, broker, "streams", STREAMS, inputs),
        "lake workers": partial(kafka.check_group, broker, "lake", LAKE, list(catalogue.landing)),
        "warehouse workers": partial(kafka.check_group, broker, "warehouse", WAREHOUSE, [LAKE_OBJECTS.name]),
        "lake": partial(lake.check_lake, s3, broker, catalogue, deep=deep),
        "ledger": partial(lake.check_ledger, sql, s3),
        "warehouse tables": _in_thread(lake.check_tables, sql, catalogue),
    }


def _in_thread(check: Callable[..., list[Finding]], *arguments: object) -> Check:
    return partial(asyncio.to_thread, check, *arguments)


async def _history(broker: KafkaSettings, s3: S3Settings) -> list[Finding]:
    store = open_store(s3)
    try:
        accepted = [
            capture.CaptureGap(gap.first, gap.last).name
            for gap in await gaps(store)
            if gap.worker == "capture" and gap.last
        ]
    finally:
        await store.close()
    return await capture.check_history(broker, accepted)


async def run_check(name: str, check: Check, *, deep: bool = False) -> CheckResult:
    """Makes a check. Returns its result; an error becomes a result that says why the check could not be made."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(None if deep else TIMEOUT_S):
            found = await check()
    except Exception as error:  # noqa: BLE001 - every error is reported as a check not made, and the other checks continue
        reason = (
            "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {one_line(error)}"
        )
        return CheckResult(name, time.monotonic() - began, could_not=reason)
    return CheckResult(name, time.monotonic() - began, tuple(found))
