"""Maps a key to its partition as Kafka's default partitioner does, so that records are co-partitioned with those of Java producers."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=65_536)
def _hash(key: bytes) -> int:
    value: int = murmur2(key)
    return value & 0x7FFFFFFF


def partition_for(key: bytes | None, partitions: int) -> int:
    """Returns the partition of a key among `partitions`. Records without a key go to partition 0, so that their order is kept."""
    return 0 if key is None or partitions == 1 else _hash(key) % partitions
