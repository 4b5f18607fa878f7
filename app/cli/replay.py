"""`bankstream replay`: processes recorded changes with the streams worker's logic and writes the results to files."""

from pathlib import Path
from typing import Annotated

import typer


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="recordings, read in this order: lines of kcat -C -J; plain, .gz or .zst"
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="directory for <topic>.ndjson, one line for each record")],
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
) -> None:
    """Run the handlers over recorded changes, without Kafka.

    The same input always gives the same bytes, independent of the clock.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from app.config.settings import WorkerSettings, load
    from app.config.topics import read_catalogue
    from app.proof.replay.outputs import Outputs
    from app.proof.replay.recording import read
    from app.proof.replay.run import Replay

    terminal = Console(stderr=True)
    bar = Progress(
        TextColumn("replay"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    )
    replay = Replay(read_catalogue({}), load(WorkerSettings))
    with bar, Outputs(out, replay.outputs) as outputs:
        task = bar.add_task("replay", total=sum(file.stat().st_size for file in files))
        records = read(files, replay.inputs, lambda count: bar.advance(task, count))
        summary = replay.run(records, outputs)
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
        return
    console = Console()
    console.print(f"{summary.records:,} changes replayed into {out}")
    for name, count in summary.outputs.items():
        console.print(f"  {count:>10,}  {name}")
    for reason, count in sorted(summary.dead_letters.items()):
        console.print(f"  {count:>10,}  dead letters: {reason}")
    if summary.waiting:
        console.print(f"  {summary.waiting:>10,}  transactions wait for an account that is not in the files")
