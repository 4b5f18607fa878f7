"""`bankstream api-token`: creates a token for the lookup API."""

from typing import Annotated

import typer


def api_token(
    name: Annotated[str, typer.Argument(help="name of the client in the audit")],
    scope: Annotated[
        list[str], typer.Option(help="lookup, pii, alerts or metrics; repeat the option for several scopes")
    ],
) -> None:
    """Create a token for a client of the lookup API.

    Standard output gets the entry for the tokens file. Standard error gets the token itself, which is stored nowhere.
    """
    from app.web.tokens import entry, mint

    token = mint()
    typer.echo(entry(name, token, tuple(scope)), nl=False)
    typer.echo(token, err=True)
