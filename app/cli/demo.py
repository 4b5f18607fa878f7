"""`bankstream demo`: the whole bank on this machine until Ctrl-C."""

from typing import Annotated

import typer


def demo(
    *,
    seconds: Annotated[float | None, typer.Option(min=1, help="end by itself after so long; unset: on Ctrl-C")] = None,
    rate: Annotated[int, typer.Option(min=1, max=5_000, help="transactions a second")] = 50,
    workers: Annotated[int | None, typer.Option(min=1, max=16, help="streams workers, side by side")] = None,
    seed: Annotated[int | None, typer.Option(help="the simulated bank's; unset: a new one")] = None,
    no_dashboard: Annotated[
        bool, typer.Option("--no-dashboard", help="neither the live view (plain lines instead) nor the dashboard")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="the last line of standard output is a JSON object; all else goes to standard error"
        ),
    ] = False,
) -> None:
    """Bring up the bank, watch it live, and prove at the end that the warehouse holds what PostgreSQL holds.

    Data is kept: the next run goes on where this one stopped. Exit code 0 only if everything was equal and every test passed.
    """
    import msgspec

    from app.cli.console import StackConsole
    from app.local.demo.run import Demo, Options

    found = Demo(Options(seconds, rate, workers, seed, dashboard=not no_dashboard, json=as_json), StackConsole).run()
    if as_json:
        typer.echo(msgspec.json.encode(found))
    if not found.good:
        raise typer.Exit(1)
