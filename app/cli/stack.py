"""`bankstream stack`: the local stack from the command line."""

import json
import shlex
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="The whole system on this machine, without Docker: PostgreSQL, Kafka, Connect, S3, warehouse and workers."
)

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, help="streams workers, side by side")] = 1,
    backends_only: Annotated[bool, typer.Option(help="without our own three kinds of worker")] = False,
) -> None:
    """Start what does not run, and wait until all of it answers. Data is kept between runs."""
    from app.cli.console import StackConsole
    from app.local.stack.part import BACKENDS
    from app.local.stack.stack import Stack

    with StackConsole() as console:
        Stack(parts=BACKENDS if backends_only else None, streams_workers=workers).up(console)


@app.command()
def down(
    wipe: Annotated[bool, typer.Option(help="also remove all data, logs and secrets of the local stack")] = False,
) -> None:
    """Stop everything, users before what they use."""
    from app.cli.console import StackConsole
    from app.local.stack.stack import Stack

    with StackConsole() as console:
        Stack().down(wipe=wipe, progress=console)


@app.command()
def status(as_json: Json = False) -> None:
    """Ask every part how it is. Exit code 1 when one is not ready."""
    from app.cli.console import status_table
    from app.local.stack.stack import Stack

    processes = Stack().status()
    if as_json:
        typer.echo(json.dumps([asdict(process) for process in processes], indent=2))
    else:
        Console().print(status_table(processes))
    if any(process.state != "ready" for process in processes):
        raise typer.Exit(1)


@app.command()
def env(
    export: Annotated[
        bool, typer.Option(help='quoted, with `export`, for a shell: eval "$(bankstream stack env --export)"')
    ] = False,
) -> None:
    """Print the settings of the stack as KEY=value lines, passwords included: for other programs, not for logs."""
    from app.local.stack.stack import Stack

    for key, value in sorted(Stack().environment().items()):
        typer.echo(f"export {key}={shlex.quote(value)}" if export else f"{key}={value}")


@app.command()
def restart(part: Annotated[str, typer.Argument(help="a part, as `stack status` names it")]) -> None:
    """Stop one part cleanly and start it again."""
    from app.local.stack.stack import Stack

    Stack().restart(part)


@app.command()
def kill(part: Annotated[str, typer.Argument(help="a part, as `stack status` names it")]) -> None:
    """Kill one part with SIGKILL, to watch it come back."""
    from app.local.stack.stack import Stack

    Stack().kill(part)
