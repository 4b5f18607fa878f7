"""Runs a demo: starts the stack, the bank and the observers; then stops the bank, waits, reconciles, runs dbt and stops the stack."""

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
"""Seconds of a first run of the bank, which creates little more than its customers and accounts."""
SETTLE_TIMEOUT_S: Final = 180.0
INTERRUPTED: Final = 130
"""Exit code after a second Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    seconds: float | None
    rate: int
    workers: int | None
    seed: int | None
    dashboard: bool
    json: bool


StackProgress = Callable[[Console], AbstractContextManager[Callable[[Event], None]]]
"""A context in which a stack's events are shown on a console."""


class Demo:
    """One demo; an object is used once. `run` blocks until the end and restores the handlers of SIGINT and SIGTERM."""

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
        """Runs the whole demo. Raises the errors of `Stack.up`; later errors are problems in the summary."""
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
            f"data and logs: {stack.home.path}. Another run continues with this data; bankstream stack down --wipe removes it."
        )
        if ours:
            self._say(
                'to inspect it with other tools: bankstream stack up, then eval "$(bankstream stack env --export)"'
            )
        else:
            self._say("the stack was running before the demo and still runs")
        return summary

    def _bring_up(self) -> tuple[Stack, bool]:
        """Returns a running stack, and whether this demo started it. Such a stack stops with this process, even if that is killed."""
        stack = Stack(streams_workers=self._options.workers)
        if stack.running():
            state = stack.home.load_state()
            had = state.streams_workers if state else None
            wanted = self._options.workers or had
            if wanted == had and all(process.state == "ready" for process in stack.status()):
                self._say(
                    f"using the stack in {stack.home.path}, which is running already; it keeps running after the demo"
                )
            else:
                kept = Stack(streams_workers=wanted)
                with self._stack_progress(self._console) as console:
                    kept.up(console)
            return stack, False
        stack = Stack(streams_workers=self._options.workers, owner=os.getpid())
        self._say(f"starting the stack in {stack.home.path}")
        with self._stack_progress(self._console) as console:
            stack.up(console)
        return stack, True

    async def _main(self, stack: Stack) -> tuple[Report | None, warehouse_models.BuildResult | None]:
        environment = stack.environment()
        if lookups := environment.get("BANKSTREAM_LOOKUP_URL"):
            self._board.lookups = lookups
            self._say(f"lookups and alerts over HTTP: {lookups} (for examples see docs/QUICKSTART.md)")
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
        """Runs the dashboard during the context, unless it is switched off or not available."""
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
        """Creates the bank's customers, accounts and payment history and waits until the warehouse has them. False if interrupted."""
        self._doing("opening the bank: creating customers, accounts and their payment history")
        ended = await self._run_bank(stack, environment, OPENING_S)
        if not ended:
            await self._unless_ended(
                wait_until_caught_up(environment, timeout_s=SETTLE_TIMEOUT_S, on_progress=self._doing)
            )
        return not self._end.is_set()

    async def _bank_day(self, stack: Stack, environment: dict[str, str]) -> None:
        """Runs transactions until the time is over, the user interrupts, or the bank exits."""
        gc_tuning.tune()  # a full collection takes a quarter of a second, during which events would be timed too late
        self._board.restart_clock()
        self._lines.restart()
        self._doing(RUNNING)
        began = time.monotonic()
        try:
            await self._run_bank(stack, environment, None)
        finally:
            self._seconds = time.monotonic() - began

    async def _run_bank(self, stack: Stack, environment: dict[str, str], seconds: float | None) -> bool:
        """Runs the bank. Returns whether the demo stopped it; False if it exited by itself after `seconds`."""
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
        """Wait until `work` is done or the user interrupts."""
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
        """Reconciles and runs dbt. An error becomes a problem in the summary, and the rest still runs."""
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
        """Waits until everything is delivered and compares the warehouse with PostgreSQL. Returns None if that fails."""
        if whole:  # after an error, what has not arrived by now will not arrive
            with self._noted():
                await wait_until_caught_up(environment, timeout_s=SETTLE_TIMEOUT_S, on_progress=self._doing)
                await asyncio.sleep(2 * TICK_S)  # the observers' last poll
        self._board.resting = True
        with self._noted():
            return await asyncio.to_thread(reconcile, environment, on_progress=self._doing)
        return None

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Turns a BankstreamError into a problem in the summary."""
        try:
            yield
        except BankstreamError as error:
            self._problems.append(str(error))

    # -- showing ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        """Shows the live view, or prints lines, during the context."""
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

    # -- messages and signals ---------------------------------------------------------------------------------------

    def _doing(self, text: str) -> None:
        """Set the current activity and print it when it changes. Thread-safe."""
        if not self._live and text.partition(":")[0] != self._board.doing.partition(":")[0]:
            self._say(text)
        self._board.doing = text

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=not self._console.is_terminal)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """During the context, the first Ctrl-C or SIGTERM stops the bank, and the second one exits the process."""
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
        self._say("aborted. The stack stops by itself if this demo started it; no committed change is lost.")
        sys.stdout.flush()
        os._exit(INTERRUPTED)
