"""`bankstream reconcile`: verifies that the warehouse holds the same rows as PostgreSQL."""

from typing import Annotated

import typer


def reconcile(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
    timeout: Annotated[
        int, typer.Option(min=1, help="seconds to wait until the warehouse has caught up with the source")
    ] = 120,
) -> None:
    """Compare every row of PostgreSQL with the warehouse as of one instant, while both keep running.

    Exit code 1 if any row differs.
    """
    import msgspec
    from rich.console import Console

    from app.proof.reconcile import reconcile as compare
    from app.proof.reconcile.report import summary_table

    progress = Console(stderr=True, highlight=False)
    with progress.status("taking a snapshot") as status:
        report = compare({}, timeout_s=timeout, on_progress=status.update)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        console = Console(highlight=False)
        console.print(summary_table(report))
        for line in report.lines():
            console.print(f"  {line}", markup=False, soft_wrap=True)
        verdict = "[green]equal[/]" if report.reconciled else "[bold red]NOT equal[/]"
        console.print(
            f"PostgreSQL and the warehouse are {verdict} as of {report.position.taken_at}, {report.seconds:.1f} s"
        )
    if not report.reconciled:
        raise typer.Exit(1)
