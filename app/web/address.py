"""Where a worker's API is reached. Apart from the rest: every streams worker has to know, also one that serves none."""

import platform

from app.config.settings import ApiSettings


def address(settings: ApiSettings) -> str | None:
    """Where other workers reach the API of this one; None if it is off."""
    if not settings.port:
        return None
    if settings.url is not None:
        return settings.url.rstrip("/")
    scheme = "http" if settings.tls_certfile is None else "https"
    host = platform.node() if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - asked, not bound
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"
