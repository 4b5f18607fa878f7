"""One demo from start to end: stack up, bank on, observers on; then bank off, wait, reconcile, dbt, stack down."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from app.errors import BankstreamError
from app.local.demo.catch_up import wait_until_caught_up
from app.local.demo.dashboard import Dashboard
from app.local.demo.demo_state import RUNNING, DemoState
from app.local.demo.observers import run_observers
from app.local.demo.plain_output import PlainOutput
from app.local.demo.simulator_process import SimulatorProcess
from app.local.demo.summary import Summary, show, summarise
from app.local.demo.view import render
from app.local.stack.events import Event
from app.local.stack.stack import Stack
from app.operations.dbt import build as warehouse_models
from app.proof.reconcile import Report, reconcile
from app.runtime import gc_tuning

TICK_S: Final = 0.5
OPENING_S: Final = 0.1
"""A run of the bank so short makes little more than what it needs to exist."""
SETTLE_TIMEOUT_S: Final = 180.0
INTERRUPTED: Final = 130
"""Exit code after a second Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    seconds: float | None
    rate: int
    workers: int | None
    seed: int | None
    dashboard: bool
    json: bool


StackProgress = Callable[[Console], AbstractContextManager[Callable[[Event], None]]]
"""Shows the events of a stack on a console for as long as its context lasts."""


class Demo:
    """Use once. `run` blocks until the end and leaves SIGINT and SIGTERM as they were."""

    def __init__(self, options: Options, stack_progress: StackProgress) -> None:
        self._options, self._stack_progress = options, stack_progress
        self._console = Console(stderr=options.json, highlight=False)
        self._live = options.dashboard and self._console.is_terminal
        self._board = DemoState(options.rate)
        self._lines = PlainOutput(self._board, self._console, quiet=self._live)
        self._end = asyncio.Event()
        self._bank: SimulatorProcess | None = None
        self._problems: list[str] = []
        self._seconds = 0.0

    def run(self) -> Summary:
        """The whole demo. Raises what `Stack.up` raises if there is nothing to show; all later trouble is in the summary."""
        stack, ours = self._bring_up()
        try:
            report, build = asyncio.run(self._main(stack))
        finally:
            if ours:
                self._say("stopping the stack; its data is kept")
                with self._stack_progress(self._console) as console:
                    stack.down(progress=console)
        summary = summarise(self._board, self._seconds, report, build, self._problems)
        show(summary, self._board, report, self._console)
        self._say(
            f"data and logs: {stack.home.path}. Another run goes on from here; bankstream stack down --wipe removes it."
        )
        if ours:
            self._say(
                'to look around in it: bankstream stack up, then eval "$(bankstream stack env --export)" and your own tools'
            )
        else:
            self._say("the stack was running before and has been left running")
        return summary

    def _bring_up(self) -> tuple[Stack, bool]:
        """A running stack, and whether it is ours to stop. Ours ends with this process, however that ends."""
        stack = Stack(streams_workers=self._options.workers)
        if stack.running():
            state = stack.home.load_state()
            had = state.streams_workers if state else None
            wanted = self._options.workers or had
            if wanted == had and all(process.state == "ready" for process in stack.status()):
                self._say(f"the stack in {stack.home.path} is running already: it is used, and left running")
            else:
                kept = Stack(streams_workers=wanted)
                with self._stack_progress(self._console) as console:
                    kept.up(console)
            return stack, False
        stack = Stack(streams_workers=self._options.workers, owner=os.getpid())
        self._say(f"starting the bank in {stack.home.path}")
        with self._stack_progress(self._console) as console:
            stack.up(console)
        return stack, True

    async def _main(self, stack: Stack) -> tuple[Report | None, warehouse_models.BuildResult | None]:
        environment = stack.environment()
        if lookups := environment.get("BANKSTREAM_LOOKUP_URL"):
            self._board.lookups = lookups
            self._say(f"lookups and alerts over HTTP: {lookups} (docs/QUICKSTART.md says how to ask)")
        with self._signals(), self._dashboard(stack, environment):
            async with (
                run_observers(stack, self._board, self._lines.alert, self._lines.died) as log,
                self._shown(),
            ):
                whole = False
                with self._noted():
                    if await self._opened(stack, environment):
                        log.begin()
                        await self._bank_day(stack, environment)
                    whole = True
                return await self._closing(environment, whole=whole)

    @contextmanager
    def _dashboard(self, stack: Stack, environment: dict[str, str]) -> Iterator[None]:
        """With the dashboard in a browser's reach, unless it is not wanted or not to be had."""
        missing = Dashboard.missing() if self._options.dashboard else None
        if missing:
            self._say(missing)
        if missing or not self._options.dashboard:
            yield
            return
        dashboard = Dashboard(environment, stack.home.log("dashboard"))
        try:
            self._board.dashboard = dashboard.start()
            self._say(f"dashboard: {self._board.dashboard}")
            yield
        finally:
            dashboard.stop()

    async def _opened(self, stack: Stack, environment: dict[str, str]) -> bool:
        """Customers, accounts and a past for a new bank, all the way into the warehouse. False if the user has had enough."""
        self._doing("opening the bank: customers, accounts and their past")
        ended = await self._run_bank(stack, environment, OPENING_S)
        if not ended:
            await self._unless_ended(wait_until_caught_up(environment, timeout_s=SETTLE_TIMEOUT_S, say=self._doing))
        return not self._end.is_set()

    async def _bank_day(self, stack: Stack, environment: dict[str, str]) -> None:
        """Transactions until the time is over, somebody ends it, or the bank does."""
        gc_tuning.tune()  # looking through everything takes a quarter of a second, and what comes in that time would be timed late
        self._board.restart_clock()
        self._lines.restart()
        self._doing(RUNNING)
        began = time.monotonic()
        try:
            await self._run_bank(stack, environment, None)
        finally:
            self._seconds = time.monotonic() - began

    async def _run_bank(self, stack: Stack, environment: dict[str, str], seconds: float | None) -> bool:
        """Answers whether it was ended from outside (and not, where `seconds` are given, by itself)."""
        options = self._options
        bank = self._bank = SimulatorProcess(
            environment, stack.home.log("simulate"), options.rate, options.seed, seconds=seconds
        )
        await bank.start()
        reading = asyncio.create_task(bank.run(lambda line: setattr(self._board, "simulated", line)))
        ending = asyncio.create_task(self._end.wait())
        limit = None if seconds is not None else options.seconds
        await asyncio.wait({reading, ending}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        ended = not reading.done()
        if ended:
            self._doing("stopping the bank")
            await bank.stop()
        await reading
        return ended

    async def _unless_ended(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for this, or until the user has had enough."""
        working, ending = asyncio.create_task(work), asyncio.create_task(self._end.wait())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
        finally:
            working.cancel()
            ending.cancel()

    async def _closing(
        self, environment: dict[str, str], *, whole: bool
    ) -> tuple[Report | None, warehouse_models.BuildResult | None]:
        """The proof. What fails is a problem of the summary, and the rest is still done."""
        go: Callable[[], warehouse_models.BuildResult] | None = None
        build: warehouse_models.BuildResult | None = None
        with contextlib.ExitStack() as models:
            with self._noted():
                go = models.enter_context(warehouse_models.prepared(environment, settle_seconds=0))
            report = await self._compared(environment, whole=whole)
            if go is not None:
                self._doing("building and testing the models with dbt")
                with self._noted():
                    build = await asyncio.to_thread(go)
        return report, build

    async def _compared(self, environment: dict[str, str], *, whole: bool) -> Report | None:
        """Everything delivered, and the warehouse held against PostgreSQL. None if that could not be."""
        if whole:  # otherwise what has not come through by now will not
            with self._noted():
                await wait_until_caught_up(environment, timeout_s=SETTLE_TIMEOUT_S, say=self._doing)
                await asyncio.sleep(2 * TICK_S)  # the observers' last look
        self._board.resting = True
        with self._noted():
            return await asyncio.to_thread(reconcile, environment, say=self._doing)
        return None

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """What fails is a problem of the summary."""
        try:
            yield
        except BankstreamError as error:
            self._problems.append(str(error))

    # -- showing ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        """With the live view, or with lines."""
        live = Live(console=self._console, screen=True, auto_refresh=False) if self._live else None
        with live or contextlib.nullcontext():
            showing = asyncio.create_task(self._show(live))
            try:
                yield
            finally:
                showing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await showing

    async def _show(self, live: Live | None) -> None:
        while True:
            self._board.sample()
            if live is not None:
                live.update(render(self._board, self._console.height), refresh=True)
            else:
                self._lines.tick()
            await asyncio.sleep(TICK_S)

    # -- saying and ending ------------------------------------------------------------------------------------------

    def _doing(self, text: str) -> None:
        """What is being done now. From any thread."""
        if not self._live and text.partition(":")[0] != self._board.doing.partition(":")[0]:
            self._say(text)
        self._board.doing = text

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=not self._console.is_terminal)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) ends the bank's day; the second ends the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _interrupted(self) -> None:
        if not self._end.is_set():
            self._end.set()
            return
        if self._bank is not None:
            self._bank.kill()
        if self._live:
            self._console.set_alt_screen(False)
            self._console.show_cursor()
        self._say("ended at once. A stack that this demo started stops by itself; nothing that was committed is lost.")
        sys.stdout.flush()
        os._exit(INTERRUPTED)
