"""`bankstream provision`: set up parts that exist already, such as a bank's own PostgreSQL, Kafka and Connect."""

import time
from collections.abc import Callable

import typer
from rich.console import Console

from app.local.stack.steps import DEFAULT, Step

app = typer.Typer(
    help="Set up the parts that the settings name: database, topics, connector, lake, warehouse. Each may be run again at any time."
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


@app.command("all")
def everything() -> None:
    """Set up everything, in the order in which the parts need each other."""
    _run(DEFAULT)
