"""`bankstream demo`: runs the whole system on this machine under a simulated bank, until Ctrl-C."""

from typing import Annotated

import typer


def demo(
    *,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="stop after this many seconds; default: on Ctrl-C")
    ] = None,
    rate: Annotated[int, typer.Option(min=1, max=5_000, help="transactions per second")] = 50,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16,
            help="number of streams workers; default: as in a running stack, else BANKSTREAM_STACK_STREAMS_WORKERS",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the simulated bank; default: random")] = None,
    no_dashboard: Annotated[
        bool,
        typer.Option(
            "--no-dashboard", help="print plain lines instead of the live view, and do not start the dashboard"
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="print the summary as JSON on standard output; everything else goes to standard error"
        ),
    ] = False,
) -> None:
    """Run the whole system with a simulated bank, show it live, and verify at the end that the warehouse equals PostgreSQL.

    Data is kept, and the next run continues with it. Exit code 0 only if the rows are equal and every test of the models passes.
    """
    import msgspec

    from app.cli.console import StackConsole
    from app.local.demo.run import Demo, Options

    found = Demo(Options(seconds, rate, workers, seed, dashboard=not no_dashboard, json=as_json), StackConsole).run()
    if as_json:
        typer.echo(msgspec.json.encode(found))
    if not found.good:
        raise typer.Exit(1)
