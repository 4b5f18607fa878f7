"""Builds the command line, `bankstream`, from its commands. Exit codes: 0 success, 1 a problem was found, 2 wrong usage."""

import sys
from importlib.metadata import version as package_version
from typing import Annotated, NoReturn

import typer

from app.cli import (
    api_token,
    dead_letters,
    demo,
    doctor,
    gaps,
    provision,
    rebuild,
    reconcile,
    replay,
    settings,
    simulate,
    stack,
    trace,
    watch,
)
from app.errors import BankstreamError

app = typer.Typer(
    name="bankstream",
    help="Exactly-once streaming for a bank: PostgreSQL changes to SCD2 history, fraud alerts, S3 and Snowflake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(stack.app, name="stack", no_args_is_help=True)
app.add_typer(dead_letters.app, name="dead-letters", no_args_is_help=True)
app.add_typer(gaps.app, name="gaps", no_args_is_help=True)
app.add_typer(provision.app, name="provision", no_args_is_help=True)
app.command()(simulate.simulate)

app.command()(demo.demo)
app.command()(doctor.doctor)
app.command()(reconcile.reconcile)
app.command()(replay.replay)
app.command()(settings.settings)
app.command()(trace.trace)
app.command()(rebuild.rebuild)
app.command()(watch.watch)
app.command()(api_token.api_token)


@app.command()
def worker(kind: Annotated[str, typer.Argument(help="streams, lake or warehouse")]) -> None:
    """Run a worker until SIGTERM.

    It is the same as `faust -A app.<kind> worker`, with logging and metrics from the settings.
    """
    from app.runtime import worker as workers

    if kind not in workers.KINDS:
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(workers.KINDS)}", param_hint="KIND")
    workers.run(kind)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(package_version("bankstream"))


def main() -> NoReturn:
    """Run the command line. A BankstreamError becomes one line on standard error and exit code 1, another error a traceback."""
    # Without this, the warehouse's client imports pandas if it is installed: over a second of each start, and no command uses it.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        app()
    except BankstreamError as error:
        typer.secho(f"bankstream: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
