"""`bankstream rebuild`: builds a warehouse from the lake alone."""

from typing import Annotated

import typer


def rebuild(
    into: Annotated[
        str,
        typer.Option(
            help="the database to fill: one that does not exist, that is empty, or that an interrupted rebuild began"
        ),
    ],
    compare: Annotated[
        bool, typer.Option(help="compare every landing table with the configured database's; otherwise print hashes")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
) -> None:
    """Fill an empty database from the lake alone, audit every object, and verify that it equals the configured database.

    An interrupted rebuild continues when it is run again. Exit code 1 if anything differs or could not be loaded.
    """
    import msgspec
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from app.proof.rebuild import rebuild as build
    from app.proof.rebuild.report import summary_table

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("offsets"), TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
    )  # fmt: skip
    with bar:
        task = bar.add_task("preparing", total=None)
        report = build(
            {},
            into,
            compare=compare,
            on_progress=lambda text: bar.update(task, description=text),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        console = Console(highlight=False)
        console.print(summary_table(report))
        for line in (
            *(f"{chain}: {why}" for chain, why in report.broken.items()),
            *report.differences,
            *report.not_compared,
        ):
            console.print(f"  {line}", markup=False, soft_wrap=True)
        against = {
            "equal": f"[green]equal[/] to {report.compared_with}",
            "different": f"[bold red]NOT equal[/] to {report.compared_with}",
            "incomplete": "[bold red]NOT complete[/]",
        }.get(report.verdict, "complete, not compared")
        console.print(f"{report.database}, from {report.lake}: {against}, {report.seconds:.1f} s")
    if report.verdict in ("different", "incomplete"):
        raise typer.Exit(1)
