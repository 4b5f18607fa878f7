"""Renders the live view: flow, latencies, alerts, a customer's history and the processes. Needs at least 80 columns and 24 lines."""

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.domain.records import AlertRecord
from app.local.demo.demo_state import RUNNING, DemoState
from app.local.demo.latency import Histogram

SEVERITY: dict[str, str] = {"low": "cyan", "medium": "yellow", "high": "dark_orange", "critical": "bold red"}
STATE: dict[str, str] = {"ready": "green", "starting": "yellow"}
FLOW_LINES = 8
HISTORY_LINES = 5
WORKER_LINES = 4
DEATH_SHOWN_S = 12.0
DEATH_LINES = 9
OURS = ("streams", "lake", "warehouse-loader", "capture-watch")


def render(board: DemoState, height: int) -> Layout:
    """Returns the whole screen, `height` lines high."""
    death = board.latest_death(DEATH_SHOWN_S)
    layout = Layout()
    layout.split_column(
        Layout(_header(board), size=1),
        Layout(name="flow", size=FLOW_LINES),
        Layout(_alerts(board, height - 1 - FLOW_LINES - WORKER_LINES - _lower(board)), name="alerts", minimum_size=3),
        Layout(_death(board) if death else _history(board), size=_lower(board)),
        Layout(_workers(board), size=WORKER_LINES),
    )
    layout["flow"].split_row(Layout(_flow(board)), Layout(_latencies(board)))
    return layout


def _lower(board: DemoState) -> int:
    return DEATH_LINES if board.latest_death(DEATH_SHOWN_S) else HISTORY_LINES


def _header(board: DemoState) -> Text:
    minutes, seconds = divmod(int(board.elapsed_s), 60)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" bankstream demo ", "bold reverse")
    text.append(f"  {minutes:02d}:{seconds:02d}  ", "bold")
    if board.doing != RUNNING:
        text.append(board.doing, "yellow")
        return text
    held = board.simulated.get("rate")
    text.append(f"{board.rate} transactions/s requested" + (f", {held:.1f} achieved" if held else ""))
    text.append("   Ctrl-C stops", "dim")
    return text


def _flow(board: DemoState) -> Panel:
    table = Table(box=None, expand=True, header_style="dim", pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("total", justify="right", no_wrap=True)
    table.add_column("per s", justify="right", no_wrap=True)
    for name, meter in board.stages.items():
        table.add_row(name, f"{meter.total:,}", f"{meter.per_second:,.0f}")
    return Panel(table, title="flow", title_align="left", border_style="blue")


def _latencies(board: DemoState) -> Panel:
    table = Table(box=None, expand=True, header_style="dim", pad_edge=False)
    for column in ("commit to", "p50", "p99", "max"):
        table.add_column(column, justify="left" if column == "commit to" else "right", no_wrap=True)
    for name, histogram in (
        ("alert", board.commit_to_alert),
        ("S3 object", board.commit_to_lake),
        ("warehouse", board.commit_to_warehouse),
    ):
        table.add_row(name, *_three(histogram))
    counted = Text(no_wrap=True, overflow="ellipsis")
    counted.append(f"{sum(board.alerts_by_rule.values()):,} alerts", "bold")
    counted.append(f", {board.duplicate_alerts} duplicates", "bold red" if board.duplicate_alerts else "dim")
    counted.append(f"\n{board.dead_letters:,} dead letters", "bold red" if board.dead_letters else "dim")
    return Panel(Group(table, counted), title="latency", title_align="left", border_style="blue")


def _three(histogram: Histogram) -> tuple[str, str, str]:
    if not histogram.count:
        return "-", "-", "-"
    return duration(histogram.percentile_us(50)), duration(histogram.percentile_us(99)), duration(histogram.max_us)


def duration(latency_us: float | None) -> str:
    """Returns a latency as text: milliseconds below a second, seconds above; short enough for a column."""
    if latency_us is None:
        return "-"
    if latency_us < 999_500:
        return f"{latency_us / 1e3:.0f} ms"
    return f"{latency_us / 1e6:.2f} s" if latency_us < 100e6 else f"{latency_us / 1e6:,.0f} s"


def _alerts(board: DemoState, height: int) -> Panel:
    """Returns the panel of alerts: the latest with its whole explanation, the others with one line each."""
    if not board.alerts:
        content: RenderableType = Text("none yet", "dim")
    else:
        newest, *others = list(board.alerts)[: -max(height - 3, 1) - 1 : -1]
        title = Text.assemble(*_alert(newest), (f"  account {newest.account_id}", "dim"), no_wrap=True)
        lines = [Text.assemble(*_alert(alert), "  ", alert.explanation, no_wrap=True) for alert in others]
        for line in lines:
            line.overflow = "ellipsis"
        content = Group(title, Text(f"  {newest.explanation}", "bold"), *lines)
    return Panel(content, title="latest alerts", title_align="left", border_style="red")


def _alert(alert: AlertRecord) -> tuple[tuple[str, str], ...]:
    return (
        (f"{alert.detected_at[11:19]}  ", "dim"),
        (f"{alert.rule:<14}", SEVERITY.get(alert.severity, "")),
        (f"  customer {alert.customer_id}", "dim"),
    )


def _history(board: DemoState) -> Panel:
    change = board.change
    if change is None:
        content: RenderableType = Text("none yet", "dim")
    else:
        heading = Text(f"customer {change.customer_id}  {change.name}", "bold", no_wrap=True, overflow="ellipsis")
        heading.append(f"  valid from {change.valid_from}", "not bold dim")
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis", style="green")
        for column, old, new in change.columns[: HISTORY_LINES - 3]:
            table.add_row(column, old, f"-> {new}")
        content = Group(heading, table)
    return Panel(content, title="latest customer history change", title_align="left", border_style="green")


def _workers(board: DemoState) -> Panel:
    """Returns the panel of processes, the workers first."""
    names = []
    for worker in sorted(board.workers, key=lambda worker: not worker.name.startswith(OURS)):
        colour = STATE.get(worker.state, "red")
        text = Text.assemble(("\u25cf ", colour), worker.name, no_wrap=True)
        if worker.state != "ready":
            text.append(f" {worker.state}", colour)
        if died := board.died[worker.name]:
            text.append(f" (died {died}x)", "red")
        names.append(text)
    served = (("dashboard", board.dashboard), ("lookups", board.lookups))
    return Panel(
        Columns(names, padding=(0, 2)), title="processes", title_align="left", border_style="blue",
        subtitle="  ".join(f"{name}: {url}" for name, url in served if url) or None, subtitle_align="right",
    )  # fmt: skip


def _death(board: DemoState) -> Panel:
    """Returns the panel of the last process that died, with the end of its log, or the history after DEATH_SHOWN_S."""
    found = board.latest_death(DEATH_SHOWN_S)
    if found is None:
        return _history(board)
    ago, died = found
    lines = died.tail.splitlines()[-(DEATH_LINES - 2) :]
    title = f"{died.part} died {ago:.0f} s ago: {died.reason}; it is restarted"
    return Panel(
        Text("\n".join(lines), no_wrap=True, overflow="ellipsis", style="dim"), title=title, title_align="left",
        border_style="bold red",
    )  # fmt: skip
