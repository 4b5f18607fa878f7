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

    Prints the entry for the tokens file on standard output, and the token on standard error. The token is not stored.
    """
    from app.web.tokens import entry, mint

    token = mint()
    typer.echo(entry(name, token, tuple(scope)), nl=False)
    typer.echo(token, err=True)
