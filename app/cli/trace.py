"""`bankstream trace`: traces a warehouse row back to PostgreSQL's WAL and checks every step."""

from typing import Annotated

import typer

WIDTH = 200
"""The line width for a file or a pipe."""


def trace(
    table: Annotated[
        str,
        typer.Option(help="dim_customer, dim_account, fct_transactions, fct_alerts, …, any captured table, or a topic"),
    ],
    key: Annotated[
        str,
        typer.Option(
            help="key of the row; for several columns as name=value,name=value or a JSON array; for a dimension also a version id; for a "
            "topic partition/offset"
        ),
    ],
    version: Annotated[
        int | None, typer.Option(min=1, help="for a dimension, the number of the version; default: the newest")
    ] = None,
    whole_chains: Annotated[
        bool, typer.Option("--whole-chains", help="also read every object of the affected chains")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
) -> None:
    """Trace a row to its landing row, object and line, ledger, Kafka offset, LSN and transaction, and check each step.

    Exit code 1 if anything differs. Exit code 2 if something could not be checked, or if there is no such row.
    """
    import msgspec
    from rich.console import Console

    from app.proof.trace import TraceError
    from app.proof.trace import trace as follow
    from app.proof.trace.report import tree

    progress = Console(stderr=True, highlight=False)
    try:
        with progress.status("tracing") as status:
            found = follow({}, table, key, version=version, whole_chains=whole_chains, on_progress=status.update)
    except TraceError as error:
        typer.secho(f"bankstream: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(msgspec.json.encode(found))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDTH)
        console.print(tree(found))
        verdict = {
            "holds": "[green]every step holds[/]",
            "differs": "[bold red]it does NOT hold[/]",
            "unreachable": "[yellow]nothing differs, but not everything could be checked[/]",
        }.get(found.verdict, found.verdict)
        console.print(f"{verdict}, {found.seconds:.1f} s")
        for line in found.differences():
            console.print(f"  {line}", markup=False, soft_wrap=True, style="red")
    if found.exit_code:
        raise typer.Exit(found.exit_code)
