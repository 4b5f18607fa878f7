"""`bankstream settings`: what this environment sets, and the reference of all settings."""

from typing import Annotated

import typer


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="print the reference page, docs/CONFIGURATION.md")
    ] = False,
    all_of_them: Annotated[bool, typer.Option("--all", help="also those that have their default")] = False,
) -> None:
    """Print the settings that this environment gives. Exit code 1 if one cannot be used, or if a variable is the name of none."""
    import os

    from app.config import settings_page

    if markdown:
        typer.echo(settings_page.markdown(), nl=False)
        return
    for variable, value, origin in settings_page.effective(os.environ):
        if all_of_them or origin == "environment":
            typer.echo(f"{variable}={value}" + ("" if origin == "environment" else "  # default"))
    if strange := settings_page.unknown(os.environ):
        typer.secho(
            f"bankstream: no settings of these names, see docs/CONFIGURATION.md: {', '.join(strange)}",
            err=True,
            fg=typer.colors.RED,
        )
        raise typer.Exit(1)
