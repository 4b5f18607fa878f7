"""`bankstream simulate`: runs the simulated bank."""

import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from app.local.simulator.statistics import Statistics

STOPS = frozenset({signal.SIGINT, signal.SIGTERM})


def simulate(
    rate: Annotated[float, typer.Option(min=0.1, max=20_000, help="transactions inserted per second")] = 50,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="stop after this many seconds; default: on Ctrl-C")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="the same seed on an equal database gives the same rows; default: random")
    ] = None,
    fraud_rate: Annotated[float, typer.Option(min=0, max=0.2, help="frauds per transaction")] = 0.003,
    customers: Annotated[
        int | None,
        typer.Option(
            min=1, help="minimum number of customers at the start; default: 200 times the rate, within 2,000 to 20,000"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object per second, and one at the end")
    ] = False,
) -> None:
    """Simulate a bank in PostgreSQL: write customers, accounts and transactions, including labelled fraud.

    Run `bankstream provision source` or `bankstream stack up` first. The simulation continues from the rows in the database.

    Ctrl-C or SIGTERM stops it after the current SQL transactions.
    """
    import secrets

    from app.config.settings import PostgresSettings, load
    from app.local.simulator.simulation import Simulation, SimulationOptions

    logging.getLogger("psycopg").setLevel(
        logging.ERROR
    )  # it warns about pipelines that end with an error, which are handled here
    signal.pthread_sigmask(
        signal.SIG_BLOCK, STOPS
    )  # sigtimedwait below receives them, so that no handler interrupts the run
    options = SimulationOptions(
        rate=rate,
        transactions=None if seconds is None else max(1, round(rate * seconds)),
        seed=secrets.randbits(32) if seed is None else seed,
        fraud_rate=fraud_rate,
        customers=customers or int(min(max(200 * rate, 2_000), 20_000)),
    )
    settings = load(PostgresSettings)
    try:
        if as_json:
            _print(Simulation(settings, options, _wait, _print).run())
        else:
            with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
                final = Simulation(settings, options, _wait, lambda now: live.update(_table(now), refresh=True)).run()
            Console().print(_table(final))
    except BrokenPipeError:  # the reader has closed the pipe; Python's flush at exit would fail on it too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wait(seconds: float) -> bool:
    return signal.sigtimedwait(STOPS, seconds) is not None


def _print(statistics: Statistics) -> None:
    print(json.dumps(asdict(statistics)), flush=True)  # noqa: T201 - this is the command's output


def _table(statistics: Statistics) -> Table:
    table = Table(box=None, header_style="bold")
    for name, value in asdict(statistics).items():
        table.add_column(name.replace("_", " "), justify="right")
        del value
    table.add_row(*(f"{value:,}" for value in asdict(statistics).values()))
    return table
