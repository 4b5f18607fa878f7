"""Tests the engine on a real broker while workers are killed, frozen, moved or started with damaged state."""

import asyncio
import gc
import random
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.exits import CONTINUITY, DEFECT, FENCED
from app.engine.kafka import KafkaLog, connection
from app.engine.topic_admin import TopicSpec, ensure_topics
from app.engine.transactional_producer import SentBatch, TransactionalProducer
from app.errors import ContinuityError, FencedError
from tests.support.machine.waiting import until
from tests.support.streams import counting_app
from tests.support.streams.broker import admin_client, remove_topics
from tests.support.streams.counting import SESSION_TIMEOUT_MS, CountingResult, CountingRun

pytestmark = pytest.mark.integration

PATIENCE_S = 60
PATIENT = {"BANKSTREAM_ENGINE_SESSION_TIMEOUT_MS": str(PATIENCE_S * 1000)}
"""A session timeout longer than the tests, so that nothing they observe is caused by it."""


def exactly_once(run: CountingRun) -> CountingResult:
    return CountingResult(lost=0, doubled=0, wrong_states=0, dead_letters=run.poison)


async def test_random_kills_of_workers_cause_no_lost_duplicated_or_wrong_counts(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    seed, kills = 7, 5
    rnd = random.Random(seed)
    async with CountingRun(kafka, tmp_path) as run:
        run.keep_alive(2)
        await until(
            lambda: "ready with" in run.log(0).read_text() + run.log(1).read_text(), timeout_s=60, message="ready"
        )

        async def kill_at_random() -> None:
            for _ in range(kills):
                await asyncio.sleep(rnd.uniform(0.5, 3))
                rnd.choice(run.alive()).kill()
                run.keep_alive(2)

        killing = asyncio.create_task(kill_at_random())
        while not killing.done():
            await run.send(2_000, seed=rnd.randrange(1000))
        await killing
        outcome = await run.outcome(deadline_s=120, meanwhile=lambda: run.keep_alive(2))
        assert outcome == exactly_once(run), f"seed {seed}, {run.sent} events: {outcome}"
        assert sum(worker.poll() == -signal.SIGKILL for worker in run.workers) == kills
        assert run.sent > 10_000


async def test_a_worker_frozen_past_its_session_is_fenced_when_it_wakes(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        await run.send(20_000)  # sent before the worker starts, so that it is frozen with open transactions
        zombie = run.start_worker()
        await until(lambda: "dead letter" in run.log(0).read_text(), timeout_s=60, message="the worker processes")
        zombie.send_signal(signal.SIGSTOP)
        heir = run.start_worker()
        await until(
            lambda: run.log(1).read_text().count("opened by-") == 2 * counting_app.PARTITIONS,
            timeout_s=SESSION_TIMEOUT_MS / 1000 + 60, message="the heir takes over",
        )  # fmt: skip
        zombie.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(zombie.wait, 60) == FENCED, run.log(0).read_text()[-2000:]
        assert await run.outcome(deadline_s=90) == exactly_once(run)
        assert heir.poll() is None


async def test_fencing_in_the_middle_of_a_transaction_is_reported_as_fencing(kafka: KafkaSettings) -> None:
    """aiokafka's sender detects the fencing first, and then refuses later calls with an error that does not mention fencing."""
    await _fence_in_the_middle(kafka)
    gc.collect()  # aiokafka leaves a failed future to garbage collection, which logs it: collect here and not in a later test


async def _fence_in_the_middle(kafka: KafkaSettings) -> None:
    await ensure_topics([TopicSpec("fenced-between", 3, {})], kafka)
    first, heir = (TransactionalProducer("fenced-between", kafka, EngineSettings()) for _ in range(2))
    await first.start()
    flush, flushed = first._flush, 0

    async def flush_and_be_fenced(builder: object, topic: str, partition: int) -> SentBatch:
        nonlocal flushed
        flushed += 1
        if flushed == 2:
            await heir.start()
        future, count = await flush(builder, topic, partition)
        if flushed == 2:
            done, _ = await asyncio.wait([first._producer._txn_manager.wait_for_transaction_end()], timeout=30)
            assert done, "its sender has learned of it"
        else:
            await future
        return future, count

    first._flush = flush_and_be_fenced  # type: ignore[method-assign]
    records = {("fenced-between", number): [(b"k", b"v")] for number in range(3)}
    try:
        with pytest.raises(FencedError, match="fenced-between was taken over by another worker"):
            await first.commit(records)
        assert flushed == 3, "the third was refused"
        assert await heir.commit(records)
    finally:
        await first.stop()
        await heir.stop()


async def test_state_comes_back_warm_cold_and_from_damaged_files(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        for round_number, prepare in enumerate((_nothing, _delete, _truncate)):
            prepare(tmp_path / "state")
            worker = run.start_worker()
            await run.send(2_000)
            assert await run.outcome(deadline_s=60) == exactly_once(run)
            worker.terminate()
            assert await asyncio.to_thread(worker.wait, 30) == 0, run.log(round_number).read_text()[-2000:]


def _nothing(_state: Path) -> None:
    """Does nothing: the first round starts without state, and a graceful stop leaves warm state."""


def _delete(state: Path) -> None:
    shutil.rmtree(state)


def _truncate(state: Path) -> None:
    files = sorted(state.rglob("*.sst")) + sorted(state.rglob("MANIFEST-*"))
    assert files
    for path in files:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


async def test_a_restarted_worker_gets_its_partitions_at_once_and_the_others_do_not_stop(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        for _ in range(3):
            run.start_worker(**PATIENT)
        await until(lambda: _shared(run, range(3)), timeout_s=120, message="three workers share the partitions")
        for killed in range(3):  # one of them is the group leader
            before = {
                number: run.log(number).read_text().count("ready with") for number in range(3) if number != killed
            }
            run.workers[killed].kill()
            run.workers[killed].wait(10)
            heir = len(run.workers)
            run.start_worker(**PATIENT)
            await run.send(1_000)
            assert await run.outcome(deadline_s=PATIENCE_S - 5) == exactly_once(run)
            assert "ready with" in run.log(heir).read_text()
            after = {number: run.log(number).read_text().count("ready with") for number in before}
            assert after == before, "nobody else took part in a rebalance"


async def test_a_worker_that_stops_leaves_its_group_at_once(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        leaver = run.start_worker(**PATIENT)
        run.start_worker(**PATIENT)
        await until(lambda: _shared(run, range(2)), timeout_s=120, message="two workers share the partitions")
        await run.send(1_000)
        leaver.terminate()
        assert await run.outcome(deadline_s=PATIENCE_S - 5) == exactly_once(run)
        assert await asyncio.to_thread(leaver.wait, 30) == 0
        await until(lambda: _shared(run, [1]), timeout_s=10, message="the other has all of them")


def _shared(run: CountingRun, numbers: Iterable[int]) -> bool:
    """Whether these workers together have all partitions open, each at least one, and none is in a rebalance."""
    logs = [run.log(number).read_text() for number in numbers]
    opened = [log.count("opened by-") - log.count("closed by-") for log in logs]
    ready = [log.rfind("ready with") > max(log.rfind("opened by-"), log.rfind("closed by-")) for log in logs]
    return all(opened) and all(ready) and sum(opened) == 2 * counting_app.PARTITIONS


async def test_a_graceful_stop_hands_over_in_seconds_and_keeps_the_state_warm(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        first = run.start_worker()
        await run.send(2_000)
        assert await run.outcome(deadline_s=60) == exactly_once(run)
        started = time.monotonic()
        first.terminate()
        assert await asyncio.to_thread(first.wait, 30) == 0
        assert time.monotonic() - started < 10
        run.start_worker()
        await until(lambda: run.log(1).read_text().count("opened by-") == 8, timeout_s=60, message="opened")
        restored = [line for line in run.log(1).read_text().splitlines() if "opened by-" in line]
        assert all(": 0 changelog records" in line for line in restored), restored


async def test_a_defect_ends_the_worker_logs_the_position_and_skips_nothing(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        producer = AIOKafkaProducer(**connection(kafka))
        await producer.start()
        sent = await producer.send_and_wait(counting_app.LEFT, key=b"k", value=b"not a number")
        await producer.stop()
        for attempt in range(2):
            worker = run.start_worker()
            assert await asyncio.to_thread(worker.wait, 60) == DEFECT
            log = run.log(attempt).read_text()
            assert f"processing {counting_app.LEFT}/{sent.partition} offset {sent.offset}" in log
            assert "ValueError" in log


async def test_a_worker_refuses_to_start_without_its_topics(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        await run.drop_topics()
        worker = run.start_worker()
        assert await asyncio.to_thread(worker.wait, 60) == CONTINUITY
        assert "has no topic count.left, count.right, count.steps" in run.log(0).read_text()


async def test_a_recreated_input_topic_stops_the_worker_instead_of_skipping(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with CountingRun(kafka, tmp_path) as run:
        worker = run.start_worker()
        await run.send(2_000)
        assert await run.outcome(deadline_s=60) == exactly_once(run)
        worker.terminate()
        await asyncio.to_thread(worker.wait, 30)
        await _recreate(counting_app.LEFT, kafka)
        second = run.start_worker()
        assert await asyncio.to_thread(second.wait, 60) == CONTINUITY
        assert "was recreated" in run.log(1).read_text()


async def _recreate(topic: str, kafka: KafkaSettings) -> None:
    async with admin_client(kafka) as admin:
        await remove_topics(admin, topic)
    await ensure_topics([TopicSpec(topic, counting_app.PARTITIONS, {})], kafka)


async def test_topics_are_created_once_and_another_partition_count_is_refused(kafka: KafkaSettings) -> None:
    spec = TopicSpec("made-once", 3, {"retention.ms": "60000"})
    assert await ensure_topics([spec], kafka) == ["made-once"]
    assert await ensure_topics([spec], kafka) == []
    with pytest.raises(ContinuityError, match="has 3 partitions, but 5 are configured"):
        await ensure_topics([TopicSpec("made-once", 5, {})], kafka)


async def test_a_recreated_topic_has_a_new_id(kafka: KafkaSettings) -> None:
    await ensure_topics([TopicSpec("made-again", counting_app.PARTITIONS, {})], kafka)
    async with KafkaLog(kafka) as log:
        before = (await log.require(["made-again"]))["made-again"]
        await _recreate("made-again", kafka)
        after = (await log.require(["made-again"]))["made-again"]
    assert before.partitions == after.partitions == counting_app.PARTITIONS
    assert before.id != after.id
