"""`bankstream simulate`: the simulated bank from the command line."""

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
    seconds: Annotated[float | None, typer.Option(min=0.1, help="how long; unset: until Ctrl-C")] = None,
    seed: Annotated[
        int | None, typer.Option(help="the same seed on an equal database makes the same rows; unset: a new one")
    ] = None,
    fraud_rate: Annotated[float, typer.Option(min=0, max=0.2, help="frauds begun per transaction")] = 0.003,
    customers: Annotated[
        int | None,
        typer.Option(
            min=1, help="the bank has at least so many at the start; unset: 200 for each transaction a second"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a second, and one at the end")] = False,
) -> None:
    """Write the life of a bank to PostgreSQL: customers, accounts and transactions, and now and then a labelled fraud.

    Needs `bankstream provision source` (or `stack up`) to have run, and goes on from what is in the database. Ctrl-C or SIGTERM ends it
    after the SQL transactions under way.
    """
    import secrets

    from app.config.settings import PostgresSettings, load
    from app.local.simulator.simulation import Simulation, SimulationOptions

    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of pipelines that end by an error, which we handle
    signal.pthread_sigmask(
        signal.SIG_BLOCK, STOPS
    )  # taken by sigtimedwait below instead: no handler runs in the middle
    wishes = SimulationOptions(
        rate=rate,
        transactions=None if seconds is None else max(1, round(rate * seconds)),
        seed=secrets.randbits(32) if seed is None else seed,
        fraud_rate=fraud_rate,
        customers=customers or int(min(max(200 * rate, 2_000), 20_000)),
    )
    settings = load(PostgresSettings)
    try:
        if as_json:
            _print(Simulation(settings, wishes, _wait, _print).run())
        else:
            with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
                final = Simulation(settings, wishes, _wait, lambda now: live.update(_table(now), refresh=True)).run()
            Console().print(_table(final))
    except BrokenPipeError:  # whoever read this has gone; nor is there anyone for what Python writes at its end
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
