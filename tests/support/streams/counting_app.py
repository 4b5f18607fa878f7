"""A small Faust app for tests of the engine alone: two input topics that share a table, and a second subtopology after them.

`by-key` counts and sums per key over both inputs and emits every step to `count.steps`; `by-step` counts the steps per key.
Run: `python -m tests.support.streams.counting_app worker` with BANKSTREAM_* settings for Kafka and the state directory.
"""

import struct

from rocksdict import Cache

from app.config.settings import EngineSettings, KafkaSettings, load
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim
from app.engine.partition_group import PartitionGroup
from app.engine.subtopologies import transactional_subtopology
from app.engine.table import Table
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError

LEFT, RIGHT, STEPS, FINAL, LETTERS = "count.left", "count.right", "count.steps", "count.final", "count.letters"
PARTITIONS = 4
APP_ID = "counting"


def _pair(raw: bytes) -> tuple[int, int]:
    count, total = struct.unpack(">qq", raw)
    return count, total


SUMS: Table[bytes, tuple[int, int]] = Table("sums", bytes, lambda value: struct.pack(">qq", *value), _pair)
STEP_COUNTS: Table[bytes, int] = Table(
    "steps", bytes, lambda value: value.to_bytes(8, "big"), lambda raw: int.from_bytes(raw, "big")
)


def count(record: InputRecord, unit: UnitOfWork) -> None:
    """Emits `<id>,<count>,<sum>` of the key for `<id>`. `poison` writes and then raises, so that the undo is tested too."""
    assert record.key is not None
    assert record.value is not None
    sums = unit.table(SUMS)
    n, total = sums.get(record.key) or (0, 0)
    if record.value == b"poison":
        sums.put(record.key, (n + 1_000_000, total))
        unit.emit(STEPS, key=record.key, value=b"never to be seen")
        raise PoisonRecordError("the value is poison", reason="poison", stage="apply")
    number = int(record.value)
    sums.put(record.key, (n + 1, total + number))
    unit.emit(STEPS, key=record.key, value=b"%d,%d,%d" % (number, n + 1, total + number))


def step(record: InputRecord, unit: UnitOfWork) -> None:
    """Counts the steps of a key and emits them."""
    assert record.key is not None
    assert record.value is not None
    counts = unit.table(STEP_COUNTS)
    n = (counts.get(record.key) or 0) + 1
    counts.put(record.key, n)
    unit.emit(FINAL, key=record.key, value=record.value + b",%d" % n)


def groups() -> tuple[PartitionGroup, PartitionGroup]:
    """Both partition groups."""
    return (
        PartitionGroup(APP_ID, "by-key", (LEFT, RIGHT), (SUMS,), PARTITIONS, lambda _: PARTITIONS, LETTERS),
        PartitionGroup(APP_ID, "by-step", (STEPS,), (STEP_COUNTS,), PARTITIONS, lambda _: PARTITIONS, LETTERS),
    )


def make_app() -> App:
    """The app, with settings from the environment."""
    kafka, settings = load(KafkaSettings), load(EngineSettings)
    engine = Engine(kafka, settings)
    instance, cache = claim(settings.state_dir), Cache(8 << 20)
    by_key, by_step = groups()

    engine.add(
        transactional_subtopology(by_key, {LEFT: count, RIGHT: count}, engine, state=instance.directory, cache=cache)
    )
    engine.add(transactional_subtopology(by_step, {STEPS: step}, engine, state=instance.directory, cache=cache))
    app = App(APP_ID, engine, instance)
    for group in (by_key, by_step):
        for topic in group.topics:
            app.dispatch(topic, group.name)
    return app


if __name__ == "__main__":
    make_app().main()
