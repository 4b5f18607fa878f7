"""`bankstream settings`: prints the settings of this environment, and the reference of all settings."""

from typing import Annotated

import typer


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="print the reference page, docs/CONFIGURATION.md")
    ] = False,
    all_of_them: Annotated[bool, typer.Option("--all", help="include settings that have their default")] = False,
) -> None:
    """Print the settings that this environment sets.

    Exit code 1 if a setting is invalid, or if a BANKSTREAM_ variable is not a setting.
    """
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
            f"bankstream: unknown settings, see docs/CONFIGURATION.md: {', '.join(strange)}",
            err=True,
            fg=typer.colors.RED,
        )
        raise typer.Exit(1)
