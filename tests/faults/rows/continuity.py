"""Faults that break continuity: a changelog that is lost or repartitioned, and a lost replication slot (matrix 15, 21)."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from app.config.settings import ConnectSettings, SourceSettings
from app.config.topics import ALERTS, SCD2_ACCOUNTS, SCD2_CUSTOMERS, TRANSACTIONS, VELOCITY, Topic
from app.engine.exits import CONTINUITY
from app.operations.doctor.run import examine
from app.operations.provision import connector
from app.proof.reconcile import reconcile
from app.topology.partition_groups import groups
from tests.faults.bank import Bank
from tests.faults.fault import ORDINARY_EXITS, Fault, Firing, NotFiredError
from tests.faults.logs import Reader
from tests.faults.rows.log import WAIT_S, everything_captured
from tests.faults.worker_supervisor import tail
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of
from tests.support.machine.waiting import eventually
from tests.support.streams.broker import admin_client

OUTPUTS: Final[Mapping[str, tuple[Topic, ...]]] = {
    "by-account": (TRANSACTIONS, SCD2_ACCOUNTS),
    "by-customer": (SCD2_CUSTOMERS, VELOCITY, ALERTS),
}
"""Output topics of each group. Only those of the damaged group are checked: a worker may still process the other one before it stops."""
STOPPED_S: Final = 120.0
LIVES: Final = 3
"""How often each worker must restart and refuse to run before the output topics are checked."""


def broken(
    damage: Callable[[AIOKafkaAdminClient, Bank, str], Awaitable[None]],
) -> Callable[[Bank, random.Random], Firing]:
    """Damages a changelog under load. Every streams worker must exit with 73 and name the changelog, again after each restart.

    The group of the changelog must emit nothing more.
    """

    def fire(bank: Bank, chance: random.Random) -> Firing:
        group = chance.choice(groups(CATALOGUE, bank.kafka))
        changelog = group.changelog(chance.choice(group.tables).name)
        before, at = len(bank.workers.exits()), time.time()
        asyncio.run(_damage(bank, changelog, damage))
        _refused(bank, changelog, before, lives=1)
        ends = asyncio.run(_ends(bank, OUTPUTS[group.name]))
        _refused(bank, changelog, len(bank.workers.exits()), lives=LIVES)
        if emitted := asyncio.run(_emitted(bank, ends)):
            raise AssertionError(f"records came out behind {emitted} though {changelog} is not what it was")
        return Firing(
            f"{changelog}: every streams worker stopped with {CONTINUITY} and named it, {1 + LIVES} times", at
        )

    return fire


def slot_lost(bank: Bank, _: random.Random) -> Firing:
    """Drops the slot and changes rows before the connector is back. The changes are not captured; a snapshot reads the rows again."""
    rate = bank.load.rate
    bank.load.stop()
    asyncio.run(everything_captured(bank))
    bank.stack.stop("connect")
    eventually(
        lambda: not bank.query("SELECT FROM pg_replication_slots WHERE active"),
        timeout_s=WAIT_S,
        message="the slot stays active",
    )
    ((reached,),) = bank.query("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'bank'")
    bank.query("SELECT pg_drop_replication_slot('bank')")
    at = time.time()
    changed = bank.query(
        "UPDATE customers SET city = 'Uncaptured' WHERE customer_id IN (SELECT customer_id FROM customers ORDER BY 1 LIMIT 50)"
        " RETURNING customer_id"
    )
    ((written,),) = bank.query("SELECT pg_current_wal_lsn()::text")
    missed = asyncio.run(_findings(bank, "slot-missing"))
    bank.stack.start("connect")
    connector.provision(
        settings_of(bank.environment, ConnectSettings), settings_of(bank.environment, SourceSettings), CATALOGUE
    )
    asyncio.run(everything_captured(bank))
    gap = asyncio.run(_findings(bank, "capture-gap"))
    if not changed or not missed or not any(_covers(bank, text, str(reached), str(written)) for text in gap):
        raise NotFiredError(f"the doctor does not say what was not captured, {reached} to {written}: {missed + gap}")
    bank.load.start(rate)
    return Firing(f"{len(changed)} rows changed without a slot; the doctor: {gap[0]}", at)


def is_reconciled(bank: Bank) -> list[str]:
    """Checks that the warehouse equals PostgreSQL, including the changes that were not captured."""
    report = reconcile(bank.environment, timeout_s=WAIT_S)
    return [] if report.reconciled else [f"the warehouse is not what PostgreSQL is: {report}"]


def _covers(bank: Bank, finding: str, first: str, last: str) -> bool:
    """Whether the range in a finding contains the range between these two log positions."""
    found = re.search(r"between ([0-9A-F]+/[0-9A-F]+) and ([0-9A-F]+/[0-9A-F]+)", finding)
    return found is not None and bank.query(
        "SELECT %s::pg_lsn <= %s::pg_lsn AND %s::pg_lsn <= %s::pg_lsn", found[1], first, last, found[2]
    ) == [(True,)]


def _refused(bank: Bank, changelog: str, since: int, *, lives: int) -> None:
    def all_ended() -> bool:
        codes = [end.name for end in bank.workers.exits(since) if end.code == CONTINUITY]
        return all(codes.count(name) >= lives for name in bank.workers.names("streams"))

    eventually(
        all_ended, timeout_s=STOPPED_S, message=f"not every streams worker stops with {CONTINUITY}:\n{bank.logs()}"
    )
    for name in bank.workers.names("streams"):
        assert changelog in tail(bank.workers.log(name)), (
            f"{name} does not name {changelog}:\n{tail(bank.workers.log(name))}"
        )


async def _damage(
    bank: Bank, changelog: str, damage: Callable[[AIOKafkaAdminClient, Bank, str], Awaitable[None]]
) -> None:
    async with admin_client(bank.kafka) as admin:
        await damage(admin, bank, changelog)


async def _deleted(admin: AIOKafkaAdminClient, _: Bank, changelog: str) -> None:
    await admin.delete_topics([changelog])


async def _repartitioned(admin: AIOKafkaAdminClient, bank: Bank, changelog: str) -> None:
    await admin.create_partitions({changelog: NewPartitions(bank.kafka.partitions + 1)})


async def _ends(bank: Bank, topics: Iterable[Topic]) -> dict[TopicPartition, int]:
    tps = [TopicPartition(topic.name, number) for topic in topics for number in range(bank.kafka.partitions)]
    async with Reader(bank.kafka, dict.fromkeys(tps, 0)) as reader:
        return dict(reader.ends)


async def _emitted(bank: Bank, since: dict[TopicPartition, int]) -> list[TopicPartition]:
    """The partitions with committed records after these offsets. Transaction markers, which use offsets too, do not count."""
    async with Reader(bank.kafka, dict(since)) as reader:
        return [tp for tp in since if await reader.take(tp, 1)]


async def _findings(bank: Bank, code: str) -> list[str]:
    report = await examine(bank.environment)
    return [finding.message for finding in report.findings if finding.code == code]


STOPS: Final = (
    "every streams worker exits, names the changelog, and exits again after each restart; its group emits nothing more"
)
EXITS: Final = ORDINARY_EXITS | {CONTINUITY}
ROWS = (
    Fault(
        "changelog-missing", 15, "a changelog is deleted under load", STOPS, broken(_deleted),
        recovers=False, exits=EXITS, own_bank=True, stops=True,
    ),
    Fault(
        "changelog-repartitioned", 15, "a changelog gets one more partition under load",
        STOPS, broken(_repartitioned),
        recovers=False, exits=EXITS, own_bank=True, stops=True,
    ),
    Fault(
        "slot-lost", 21, "the slot is dropped, and rows change while there is no slot",
        "`bankstream doctor` names the range that was not captured; a snapshot reads every row, and all states equal PostgreSQL",
        slot_lost, check=is_reconciled, own_bank=True,
    ),
)  # fmt: skip
