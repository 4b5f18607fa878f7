"""`bankstream provision`: set up parts that exist already, such as a bank's own PostgreSQL, Kafka and Connect."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.local.stack.steps import DEFAULT, Step

app = typer.Typer(
    help="Set up the parts that the settings name: database, topics, connector, lake, warehouse, models. Each may be run again at any time."
)


def _run(steps: tuple[Step, ...]) -> None:
    console = Console(stderr=True, highlight=False)
    for step in steps:
        began = time.monotonic()
        with console.status(f"setting up {step.name}"):
            step.run({})
        console.print(f"  set up  {step.name}  {time.monotonic() - began:.1f} s", style="green", markup=False)


def _command(step: Step) -> Callable[[], None]:
    def command() -> None:
        _run((step,))

    return command


for _step in DEFAULT:
    app.command(_step.name, help=f"Set up the {_step.name} alone.")(_command(_step))


@app.command()
def models(
    project: Annotated[
        Path | None, typer.Option(help="folder of the dbt project; unset: that of the checkout", show_default=False)
    ] = None,
) -> None:
    """Write the dbt models of the tables that are declared beside the bank's own, from the columns that PostgreSQL says they have.

    Files that this command has not made are left as they are, and named. `make dbt` then builds the models.
    """
    from app.config.settings import SourceSettings, load
    from app.config.topics import read_catalogue
    from app.operations.dbt.build import PROJECT
    from app.operations.provision.models import provision

    done = provision(read_catalogue({}), load(SourceSettings), project or PROJECT)
    for what, style, names in (
        ("written", "green", done.written),
        ("unchanged", "dim", done.unchanged),
        ("left alone: not made by this command", "yellow", done.left),
        ("of no declared table: remove it", "yellow", done.undeclared),
    ):
        for name in names:
            Console(stderr=True, highlight=False).print(f"  {name}  {what}", style=style, markup=False, soft_wrap=True)


@app.command("all")
def everything() -> None:
    """Set up everything but the models, in the order in which the parts need each other."""
    _run(DEFAULT)
