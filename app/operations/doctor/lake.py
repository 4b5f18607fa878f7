"""Checks the lake against Kafka, the warehouse's ledger against the lake, and the warehouse's tables."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings, S3Settings, SnowflakeSettings
from app.config.topics import Catalogue
from app.engine.kafka import KafkaLog
from app.errors import ContinuityError, one_line
from app.operations.doctor.findings import Finding
from app.operations.doctor.kafka import LogBounds
from app.operations.provision.warehouse import MIGRATIONS, landing_tables
from sinks import chain
from sinks.base import ChainKey, LakeObject, LedgerRow, ObjectStore
from sinks.gaps import GapRecord, gaps
from sinks.relations import LEDGER, SCHEMA, relation
from sinks.sessions import open_reader, open_store
from sinks.sql import identifier

NEWEST: Final = 50
"""The number of objects at the end of each chain that are checked; `deep` checks all."""
READS: Final = 16
VERSIONS: Final = "SCHEMA_VERSIONS"


@dataclass(frozen=True, slots=True)
class ChainState:
    """A chain: its newest object, and the first break between two of the objects that were checked."""

    key: ChainKey
    newest: LakeObject | None
    broken: str = ""


def judge_lake(
    chains: Sequence[ChainState],
    ids: Mapping[str, UUID],
    ends: Mapping[tuple[str, int], LogBounds],
    known: Sequence[GapRecord],
) -> list[Finding]:
    """Checks that the chains are complete and that Kafka still has the records after them."""
    findings: list[Finding] = []
    accepted = {(gap.topic, gap.topic_id, gap.partition, gap.first): gap for gap in known if gap.worker == "lake"}
    for one in chains:
        topic, topic_id, number = one.key
        subject = f"{topic}/{number}"
        if one.broken:
            findings.append(Finding("chain-broken", subject, one.broken))
        if one.newest is None:
            continue
        next_offset = one.newest.last_offset + 1
        while (gap := accepted.get((topic, topic_id, number, next_offset))) and gap.resumes_topic_id == topic_id:
            next_offset = gap.resumes_at
        accept = f"if that loss is accepted: bankstream gaps accept lake {subject} --reason '…'"
        if topic in ids and topic_id != str(ids[topic]):
            if gap is None:
                findings.append(
                    Finding(
                        "lake-recreated", subject,
                        f"the chain of id {topic_id} ends with offset {next_offset - 1}; topic {topic} has id {ids[topic]} now, and "
                        f"the old topic's records from offset {next_offset} on are not in the lake",
                        f"bankstream gaps accept lake {subject} --incarnation {topic_id} --reason '…'",
                    )
                )  # fmt: skip
            continue
        place = ends.get((topic, number))
        if place is None:
            continue
        if next_offset < place.first:
            findings.append(
                Finding(
                    "lake-expired", subject,
                    f"the lake has {subject} through offset {next_offset - 1}, Kafka begins with {place.first}: offsets {next_offset} to "
                    f"{place.first - 1} are in neither", accept,
                )
            )  # fmt: skip
        if next_offset > place.end:
            findings.append(
                Finding(
                    "lake-ahead",
                    subject,
                    f"the lake has {subject} through offset {next_offset - 1}, Kafka ends with {place.end - 1}",
                )
            )
    return findings


def judge_ledger(
    ledger: Mapping[ChainKey, LedgerRow], chains: Sequence[ChainState], last: Mapping[str, LakeObject | None]
) -> list[Finding]:
    """Checks that the loaded objects are in the lake. `last`: by name, the last object of each ledger row as it is in the lake now."""
    newest = {one.key: one.newest for one in chains}
    findings: list[Finding] = []
    for key, row in sorted(ledger.items()):
        if not row.last_object:
            continue
        subject, found = f"{key.topic}/{key.partition}", newest.get(key)
        kept = last.get(row.last_object)
        if found is None or found.last_offset < row.last_offset:
            has = "nothing" if found is None else f"only through offset {found.last_offset}"
            findings.append(
                Finding(
                    "ledger-ahead",
                    subject,
                    f"{subject} (id {key.topic_id}) is loaded through offset {row.last_offset}, the lake has {has}",
                )
            )
        elif kept is None or (kept.sha256, kept.last_offset) != (row.last_sha256, row.last_offset):
            state = "is not in the lake" if kept is None else "has been replaced by another object"
            findings.append(
                Finding(
                    "ledger-object",
                    subject,
                    f"{subject} is loaded through offset {row.last_offset}, but {row.last_object} {state}",
                )
            )
    return findings


async def read_chain(store: ObjectStore, key: ChainKey, *, deep: bool = False) -> ChainState:
    """Reads the newest objects of a chain and checks that each continues the one before."""
    newest = await chain.newest(store, key)
    if newest is None:
        return ChainState(key, None)
    names = await _names(store, key, newest, deep=deep)
    found = await asyncio.gather(*(_object(store, name) for name in names))
    first = found[0]
    if deep and isinstance(first, LakeObject) and not chain.follows(first, -1, ""):
        return ChainState(
            key, newest, f"the first object is {first.object}: offsets 0 to {first.previous_last_offset} are missing"
        )
    for name, one, before in zip(names[1:], found[1:], found, strict=False):
        if isinstance(before, str):
            return ChainState(key, newest, before)
        if isinstance(one, str):
            return ChainState(key, newest, one)
        if one.previous_last_offset > before.last_offset:
            missing = f"offsets {before.last_offset + 1} to {one.previous_last_offset} are missing"
            return ChainState(key, newest, f"{missing}: {name} does not follow {before.object}")
        if not chain.follows(one, before.last_offset, before.sha256):
            return ChainState(
                key, newest, f"{name} does not follow {before.object}: it was written after another object"
            )
    return ChainState(key, newest, found[-1] if isinstance(found[-1], str) else "")


async def _names(store: ObjectStore, key: ChainKey, newest: LakeObject, *, deep: bool) -> list[str]:
    """Returns the names of the last NEWEST objects in order; with `deep`, of all."""
    names: list[str] = []
    after = "" if deep else await _before(store, key, newest)
    while page := await store.names(chain.folder(key), after=after):
        names += page
        after = page[-1]
    return names if deep else names[-NEWEST:]


async def _before(store: ObjectStore, key: ChainKey, newest: LakeObject) -> str:
    """Returns a name that at least NEWEST objects follow, found in growing strides back from the end; "" if there is none."""
    stride = NEWEST
    end = chain.parse(newest.object)[1]
    while stride < end:
        after = chain.name(key, end - stride)
        if len(await store.names(chain.folder(key), after=after, limit=NEWEST)) == NEWEST:
            return after
        stride *= 4
    return ""


async def _object(store: ObjectStore, name: str) -> LakeObject | str:
    """Returns the object, or a message that says what is wrong with it."""
    stat = await store.stat(name)
    if stat is None:
        return f"{name} was listed, but does not exist"
    try:
        return chain.parse_metadata(name, stat)
    except ContinuityError as error:
        return one_line(error)


async def _chains(store: ObjectStore, catalogue: Catalogue, *, deep: bool) -> list[ChainState]:
    found = await asyncio.gather(*(chain.chains(store, topic.name) for topic in catalogue.landed))
    limit = asyncio.Semaphore(READS)

    async def read(key: ChainKey) -> ChainState:
        async with limit:
            return await read_chain(store, key, deep=deep)

    return list(await asyncio.gather(*(read(key) for keys in found for key in keys)))


async def check_lake(s3: S3Settings, kafka: KafkaSettings, catalogue: Catalogue, *, deep: bool) -> list[Finding]:
    """Checks the chains against Kafka. The chains are read first: Kafka had all their records before."""
    store = open_store(s3)
    try:
        chains, known = await _chains(store, catalogue, deep=deep), await gaps(store)
    finally:
        await store.close()
    async with KafkaLog(kafka) as log:
        infos = await log.topics(catalogue.landing)
        tps = [TopicPartition(name, number) for name, info in infos.items() for number in range(info.partitions)]
        first, end = await log.beginning(tps), await log.end(tps)
    ends = {(tp.topic, tp.partition): LogBounds(first[tp], end[tp]) for tp in tps}
    return judge_lake(chains, {name: info.id for name, info in infos.items()}, ends, known)


async def check_ledger(sql: SnowflakeSettings, s3: S3Settings) -> list[Finding]:
    """Checks the ledger against the lake. The ledger is read first: the lake had all loaded objects before."""
    store = open_store(s3)
    try:
        ledger = await asyncio.to_thread(_ledger, sql)
        newest = await asyncio.gather(*(chain.newest(store, key) for key in ledger))
        names = [row.last_object for row in ledger.values() if row.last_object]
        found = await asyncio.gather(*(_object(store, name) for name in names))
    finally:
        await store.close()
    last = {name: one if isinstance(one, LakeObject) else None for name, one in zip(names, found, strict=True)}
    return judge_ledger(ledger, [ChainState(key, one) for key, one in zip(ledger, newest, strict=True)], last)


def _ledger(sql: SnowflakeSettings) -> dict[ChainKey, LedgerRow]:
    with open_reader(sql) as reader:
        return reader.ledger()


def judge_tables(found: Sequence[str], version: int | None, catalogue: Catalogue) -> list[Finding]:
    """Checks that the warehouse has the tables and the schema version that loading needs."""
    wanted = (*landing_tables(catalogue), LEDGER, VERSIONS)
    findings = [
        Finding("warehouse-table", table, f"table {SCHEMA}.{table} does not exist")
        for table in wanted
        if table not in found
    ]
    if version is not None and version != len(MIGRATIONS):
        findings.append(
            Finding(
                "warehouse-table",
                VERSIONS,
                f"the warehouse has schema version {version}, this program {len(MIGRATIONS)}",
            )
        )
    return findings


def check_tables(sql: SnowflakeSettings, catalogue: Catalogue) -> list[Finding]:
    """Checks the landing tables, the ledger and the schema version."""
    with open_reader(sql) as reader:
        tables = f"{identifier(sql.database)}.INFORMATION_SCHEMA.TABLES"
        rows = reader.rows(f"SELECT table_name FROM {tables} WHERE table_schema = %s", [SCHEMA])  # noqa: S608 - an identifier
        found = [str(name) for (name,) in rows]
        version: int | None = None
        if VERSIONS in found:
            [(newest,)] = reader.rows(f"SELECT coalesce(max(version), 0) FROM {relation(sql.database, VERSIONS)}")  # noqa: S608 - a name
            version = int(newest)
    return judge_tables(found, version, catalogue)
