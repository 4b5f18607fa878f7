"""Shows the stack on a terminal: its progress as lines and a download bar on standard error, its status as a table."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from app.local.stack.events import Died, Downloading, Event, Note, Provisioned, Ready, Starting, Stopping
from app.local.stack.stack import ProcessStatus

STATE_COLOURS = {"ready": "green", "starting": "yellow", "stopped": "dim", "failed": "red"}


class StackConsole:
    """Prints stack events. Use it as a context manager and pass it to `Stack.up` or `Stack.down`. Thread-safe."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Downloading(name, done, total):
                task = self._tasks.get(name)
                if task is None:
                    task = self._tasks[name] = self._bar.add_task(f"download {escape(name)}", total=total)
                self._bar.update(task, completed=done, total=total)
            case Starting(part):
                self._line("dim", f"start   {part}")
            case Ready(part, seconds):
                self._line("green", f"ready   {part}  {seconds:.1f} s")
            case Provisioned(step, seconds):
                self._line("green", f"set up  {step}  {seconds:.1f} s")
            case Stopping(part):
                self._line("dim", f"stop    {part}")
            case Note(text):
                self._line("yellow", f"note    {text}")
            case Died(part, reason, tail):
                self._line("red", f"died    {part}: {reason}; it is restarted. The end of its log:")
                self._console.print(tail, style="dim", markup=False)

    def _line(self, style: str, text: str) -> None:
        self._console.print(f"  {text}", style=style, markup=False)


def status_table(processes: tuple[ProcessStatus, ...]) -> Table:
    """Returns a table with the status of every process."""
    table = Table(box=None, header_style="bold")
    for column in ("part", "state", "pid", "up", "memory", ""):
        table.add_column(column)
    for process in processes:
        colour = STATE_COLOURS.get(process.state, "red")
        table.add_row(
            process.name,
            f"[{colour}]{process.state}[/]",
            str(process.pid or ""),
            "" if process.uptime_s is None else f"{process.uptime_s:.0f} s",
            "" if process.memory_mb is None else f"{process.memory_mb} MB",
            escape(process.problem),
        )
    return table
