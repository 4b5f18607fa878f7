"""Which partition a key belongs to: Kafka's default partitioner, so that our records land beside those of Java producers."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=65_536)
def _hash(key: bytes) -> int:
    value: int = murmur2(key)
    return value & 0x7FFFFFFF


def partition_for(key: bytes | None, partitions: int) -> int:
    """Partition of a key among `partitions`; a record without a key goes to partition 0, so that its order is kept."""
    return 0 if key is None or partitions == 1 else _hash(key) % partitions
