"""`bankstream provision`: provisions existing servers, such as a bank's own PostgreSQL, Kafka and Connect."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.operations.provision.steps import DEFAULT, Step

app = typer.Typer(
    help="Provision the parts that the settings name: source, topics, lake, warehouse, connector, models. Every step is idempotent."
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
    app.command(_step.name, help=f"Provision only: {_step.name}.")(_command(_step))


@app.command()
def models(
    project: Annotated[
        Path | None, typer.Option(help="folder of the dbt project; default: the checkout's", show_default=False)
    ] = None,
) -> None:
    """Write the dbt models of the declared tables, from their columns in PostgreSQL.

    Files that this command did not create are listed and left unchanged. Run `make dbt` afterwards to build the models.
    """
    from app.config.settings import SourceSettings, load
    from app.config.topics import read_catalogue
    from app.operations.dbt.build import PROJECT
    from app.operations.provision.models import provision

    done = provision(read_catalogue({}), load(SourceSettings), project or PROJECT)
    for what, style, names in (
        ("written", "green", done.written),
        ("unchanged", "dim", done.unchanged),
        ("left unchanged: not created by this command", "yellow", done.left),
        ("its table is not declared: remove the file", "yellow", done.undeclared),
    ):
        for name in names:
            Console(stderr=True, highlight=False).print(f"  {name}  {what}", style=style, markup=False, soft_wrap=True)


@app.command("all")
def everything() -> None:
    """Provision all parts except the models, in the order of their dependencies."""
    _run(DEFAULT)
