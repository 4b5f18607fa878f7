"""Runs all observers of a demo during a context. Each updates the demo's state."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from app.config.settings import KafkaSettings, SnowflakeSettings, SourceSettings, read
from app.config.topics import read_catalogue
from app.domain.records import AlertRecord
from app.local.demo import polls
from app.local.demo.demo_state import POSTGRES, WAREHOUSE, DemoState, WorkerState
from app.local.demo.load_latency import LoadLatency
from app.local.demo.log_observer import LogObserver
from app.local.stack.events import Died
from app.local.stack.stack import ProcessStatus, Stack
from app.proof.reconcile import barrier


@asynccontextmanager
async def run_observers(
    stack: Stack, board: DemoState, on_alert: Callable[[AlertRecord], None], on_death: Callable[[Died], None]
) -> AsyncIterator[LogObserver]:
    """Runs every observer during the context. All updates of the state and all callbacks run on this event loop."""
    environment = stack.environment()
    kafka, catalogue = read(KafkaSettings, environment), read_catalogue(environment)
    say = asyncio.get_running_loop().call_soon_threadsafe
    feed = _Feed(board)
    topic_ids = await barrier.topic_ids(kafka, catalogue.landing)
    log = LogObserver(kafka, catalogue, board, feed.coverage, on_alert)
    await log.start()
    watching = asyncio.create_task(log.run())
    pollers = [
        polls.ledger(
            read(SnowflakeSettings, environment), topic_ids,
            lambda positions, now_us: say(feed.ledger, positions, now_us),
        ),
        polls.commits(read(SourceSettings, environment), lambda count: say(feed.commits, count)),
        polls.statuses(stack, lambda found: say(feed.statuses, found)),
        polls.deaths(stack, lambda died: say(feed.died, died, on_death)),
    ]  # fmt: skip
    try:
        yield log
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await log.stop()
        await asyncio.gather(*(asyncio.to_thread(poller.close) for poller in pollers))


class _Feed:
    """Puts the pollers' results into the demo's state."""

    def __init__(self, board: DemoState) -> None:
        self._board = board
        self._commits_seen: int | None = None
        self.coverage = LoadLatency(board.commit_to_warehouse)

    def ledger(self, positions: Mapping[tuple[str, int], int], now_us: int) -> None:
        self.coverage.ledger(positions, now_us)
        self._board.stages[WAREHOUSE].total = self.coverage.loaded_rows

    def commits(self, count: int) -> None:
        """Add the new commits. PostgreSQL's count restarts at zero after a crash."""
        if self._commits_seen is not None:
            self._board.stages[POSTGRES].total += count - self._commits_seen if count >= self._commits_seen else count
        self._commits_seen = count

    def statuses(self, found: tuple[ProcessStatus, ...]) -> None:
        self._board.workers = tuple(WorkerState(process.name, process.state, process.memory_mb) for process in found)

    def died(self, died: Died, on_death: Callable[[Died], None]) -> None:
        self._board.death(died)
        on_death(died)
