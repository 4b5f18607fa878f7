"""Checks that the lake's objects of each chain contain exactly Kafka's records: no gap, no overlap, correct hashes and contents."""

import asyncio
from array import array
from collections.abc import Mapping
from typing import Final

from aiokafka import TopicPartition

from app.config.settings import S3Settings
from app.errors import ContinuityError
from sinks.base import ChainKey, LakeObject
from sinks.chain import chains
from sinks.chain_verification import verify_chain
from sinks.s3 import S3Store
from tests.faults.logs import Seen, digest
from tests.faults.violations import Violations
from tests.support.catalogue import CATALOGUE

CONCURRENT_CHAINS: Final = 4


class Lake:
    """Checks one bank's lake. Keeps the position up to which each chain is audited."""

    def __init__(self) -> None:
        self._audited: dict[ChainKey, LakeObject] = {}

    async def run(self, settings: S3Settings, seen: Mapping[TopicPartition, Seen], verdict: Violations) -> None:
        """Audits all objects since the last run."""
        store, slots = S3Store(settings), asyncio.Semaphore(CONCURRENT_CHAINS)
        try:
            keys = [key for topic in CATALOGUE.landed for key in await chains(store, topic.name)]
            async with asyncio.TaskGroup() as tasks:
                for tp, records in seen.items():
                    mine = [key for key in keys if (key.topic, key.partition) == (tp.topic, tp.partition)]
                    tasks.create_task(
                        self._chain(store, slots, records, mine, f"lake: {tp.topic}/{tp.partition}", verdict)
                    )
        finally:
            await store.close()

    async def _chain(
        self,
        store: S3Store,
        slots: asyncio.Semaphore,
        seen: Seen,
        keys: list[ChainKey],
        where: str,
        verdict: Violations,
    ) -> None:
        offsets, digests = array("q"), array("Q")
        if len(keys) > 1:
            verdict.add(f"{where} has {len(keys)} chains", wrong=1)
        async with slots:
            try:
                for key in keys:
                    async for found, rows in verify_chain(store, key, self._audited.get(key)):
                        offsets.extend(row.offset for row in rows)
                        digests.extend(digest(row.key_bytes(), row.value_bytes()) for row in rows)
                        self._audited[key] = found
            except ContinuityError as error:
                verdict.add(f"{where}: {error}", wrong=1)
        must = seen.offsets[seen.compared :]
        if must != offsets:
            missing, strange = sorted({*must} - {*offsets}), sorted({*offsets} - {*must})
            doubled = len(offsets) - len({*offsets}) + len(strange)
            verdict.add(
                f"{where} lacks {missing[:8]} and has {doubled} too many, such as {strange[:8]}",
                lost=len(missing),
                doubled=doubled,
            )
        elif digests != seen.digests:
            wrong = [o for o, one, other in zip(offsets, digests, seen.digests, strict=True) if one != other]
            verdict.add(f"{where} has other content at {wrong[:8]}", wrong=len(wrong))
        seen.held()
