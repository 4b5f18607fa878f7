"""Checks that each changelog, folded as a restoring worker folds it, equals the oracle's table, byte for byte."""

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.engine.partition_group import POSITIONS
from tests.faults.logs import Reader, beginning
from tests.faults.oracle import Oracle
from tests.faults.violations import Violations


class States:
    """Checks one bank's changelogs."""

    def __init__(self, oracle: Oracle, kafka: KafkaSettings) -> None:
        self._oracle, self._kafka = oracle, kafka
        self._changelogs = {
            TopicPartition(group.changelog(table.name), number): (group.name, table.name)
            for group in oracle.groups
            for table in group.tables
            if table.is_logged
            for number in range(group.partitions)
        }
        self._folded: dict[TopicPartition, dict[bytes, bytes]] = {tp: {} for tp in self._changelogs}
        self._positions = beginning(self._changelogs)

    async def run(self, verdict: Violations) -> None:
        """Folds the records since the last run, and compares every key."""
        async with Reader(self._kafka, self._positions) as reader:
            for tp, folded in self._folded.items():
                async for page in reader.pages(tp):
                    for record in page:
                        if record.value is None:
                            folded.pop(record.key, None)
                        else:
                            folded[record.key] = record.value
        stores = {(group, one.number): one.store for group, one in self._oracle.partitions()}
        for tp, (group, table) in self._changelogs.items():
            if table != POSITIONS:
                must = dict(stores[group, tp.partition].scan(table))
                there = self._folded[tp]
                wrong = [key for key in must.keys() | there.keys() if must.get(key) != there.get(key)]
                if wrong:
                    some = [(key.hex(), must.get(key), there.get(key)) for key in sorted(wrong)[:3]]
                    verdict.add(
                        f"{tp.topic}/{tp.partition}: {len(wrong)} states (key, right, there): {some}", wrong=len(wrong)
                    )
