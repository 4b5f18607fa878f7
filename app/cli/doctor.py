"""`bankstream doctor`: what is wrong with a deployment, and what to do about it."""

from typing import Annotated

import typer


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
    deep: Annotated[
        bool, typer.Option(help="look at every object of the lake, not only at the newest; no time limit")
    ] = False,
) -> None:
    """Look at every part of the deployment that the settings name, changing nothing.

    Exit code 0: nothing is wrong (there may be warnings). 1: something is. 2: nothing found is wrong, but something could not be checked.
    """
    import asyncio
    import json
    import logging

    from rich.console import Console

    from app.operations.doctor import examine
    from app.operations.doctor.table import show

    logging.disable(logging.CRITICAL)  # what does not answer is in the report
    progress = Console(stderr=True, highlight=False)
    with progress.status("examining"):
        report = asyncio.run(examine({}, deep=deep))
    if as_json:
        typer.echo(json.dumps(report.plain(), ensure_ascii=False))
    else:
        show(report, Console(highlight=False))
    raise typer.Exit(report.exit_code)
