"""`bankstream doctor`: finds problems of a deployment and says what to do about each."""

from typing import Annotated

import typer


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
    deep: Annotated[
        bool, typer.Option(help="check every object of the lake instead of the newest only; no time limit")
    ] = False,
) -> None:
    """Check every part of the deployment that the settings name, without changing anything.

    Exit code 0: no errors, possibly warnings. 1: errors. 2: no errors found, but something could not be checked.
    """
    import asyncio
    import json
    import logging

    from rich.console import Console

    from app.operations.doctor import examine
    from app.operations.doctor.table import show

    logging.disable(logging.CRITICAL)  # the report names the parts that do not answer
    progress = Console(stderr=True, highlight=False)
    with progress.status("examining"):
        report = asyncio.run(examine({}, deep=deep))
    if as_json:
        typer.echo(json.dumps(report.plain(), ensure_ascii=False))
    else:
        show(report, Console(highlight=False))
    raise typer.Exit(report.exit_code)
