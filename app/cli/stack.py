"""`bankstream stack`: starts, stops and inspects the local stack."""

import json
import shlex
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Run the whole system on this machine without Docker: PostgreSQL, Kafka, Connect, S3, warehouse and workers."
)

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, help="number of streams workers")] = 1,
    backends_only: Annotated[
        bool, typer.Option(help="start only PostgreSQL, Kafka, Connect, S3 and the warehouse, no workers")
    ] = False,
) -> None:
    """Start the stack and wait until every part is ready. Running parts are left alone; data is kept between runs."""
    from app.cli.console import StackConsole
    from app.local.stack.part import BACKENDS
    from app.local.stack.stack import Stack

    with StackConsole() as console:
        Stack(parts=BACKENDS if backends_only else None, streams_workers=workers).up(console)


@app.command()
def down(
    wipe: Annotated[bool, typer.Option(help="also remove all data, logs and secrets of the local stack")] = False,
) -> None:
    """Stop the stack, each part before the parts that it uses."""
    from app.cli.console import StackConsole
    from app.local.stack.stack import Stack

    with StackConsole() as console:
        Stack().down(wipe=wipe, progress=console)


@app.command()
def status(as_json: Json = False) -> None:
    """Print the status of every part. Exit code 1 if one is not ready."""
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
        bool, typer.Option(help='print export statements for a shell: eval "$(bankstream stack env --export)"')
    ] = False,
) -> None:
    """Print the settings of the stack as KEY=value lines for other programs. They include passwords."""
    from app.local.stack.stack import Stack

    for key, value in sorted(Stack().environment().items()):
        typer.echo(f"export {key}={shlex.quote(value)}" if export else f"{key}={value}")


@app.command()
def restart(part: Annotated[str, typer.Argument(help="a part, as `stack status` names it")]) -> None:
    """Restart one part cleanly."""
    from app.local.stack.stack import Stack

    Stack().restart(part)


@app.command()
def kill(part: Annotated[str, typer.Argument(help="a part, as `stack status` names it")]) -> None:
    """Kill one part with SIGKILL. The stack restarts it."""
    from app.local.stack.stack import Stack

    Stack().kill(part)
