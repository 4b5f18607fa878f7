"""Returns the address of a worker's API. A separate module, because streams workers without an API need it too."""

import platform

from app.config.settings import ApiSettings


def address(settings: ApiSettings) -> str | None:
    """Returns the URL at which other workers reach this worker's API; None if the API is off."""
    if not settings.port:
        return None
    if settings.url is not None:
        return settings.url.rstrip("/")
    scheme = "http" if settings.tls_certfile is None else "https"
    host = platform.node() if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - a comparison, not a bind
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"
