"""Chooses free loopback ports at the first start and keeps them for later runs. A setting can pin a port."""

import secrets
import socket
from collections.abc import Callable, Iterable, Mapping

from app.local.stack.errors import PortInUseError

FIRST, LAST = 10_000, 32_000
"""Below the range from which the kernel takes the ports of outgoing connections."""
ATTEMPTS = 1_000


def is_free(port: int) -> bool:
    """Returns whether a server can listen on this loopback port now. Connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def choose(
    names: Iterable[str],
    remembered: Mapping[str, int],
    pinned: Mapping[str, int],
    free: Callable[[int], bool] = is_free,
) -> dict[str, int]:
    """Returns a port for each name: the pinned one, else the remembered one if it is free, else a new free one.

    Raises PortInUseError if a pinned port is in use or pinned twice.
    """
    chosen: dict[str, int] = {}
    names = tuple(names)
    for name in names:
        if (port := pinned.get(name)) is not None:
            taken_by = next((other for other, value in chosen.items() if value == port), None)
            if taken_by or not free(port):
                owner = f"also pinned for {taken_by}" if taken_by else "in use by another program"
                raise PortInUseError(
                    f"port {port} of {name} is {owner}. Free it, or change or unset BANKSTREAM_STACK_PORT_{name.upper()}."
                )
            chosen[name] = port
    for name in names:
        if (
            name not in chosen
            and (port := remembered.get(name)) is not None
            and port not in chosen.values()
            and free(port)
        ):
            chosen[name] = port
    for name in names:
        if name not in chosen:
            chosen[name] = _new({*chosen.values(), *remembered.values(), *pinned.values()}, free)
    return {name: chosen[name] for name in names}


def _new(taken: set[int], free: Callable[[int], bool]) -> int:
    for _ in range(ATTEMPTS):
        port = FIRST + secrets.randbelow(LAST - FIRST)
        if port not in taken and free(port):
            return port
    raise PortInUseError(f"no free port found between {FIRST} and {LAST}. Stop programs that listen there.")
