"""`bankstream api-token`: a new token for the lookup API."""

from typing import Annotated

import typer


def api_token(
    name: Annotated[str, typer.Argument(help="of the client, as the audit will name it")],
    scope: Annotated[list[str], typer.Option(help="lookup, pii, alerts or metrics; may be given several times")],
) -> None:
    """Make a token: the entry for the tokens file goes to standard output, the token itself, shown only now, to standard error."""
    from app.web.tokens import entry, mint

    token = mint()
    typer.echo(entry(name, token, tuple(scope)), nl=False)
    typer.echo(token, err=True)
