"""What `up` sets up in the parts once they run, in this order. Every step may be run again at any time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.stack.part import Part


@dataclass(frozen=True, slots=True)
class Step:
    """One named step; it runs when all `needs` are ready, with the stack's settings in its hands."""

    name: str
    needs: frozenset[Part]
    run: Callable[[Mapping[str, str]], None]


DEFAULT: Final[tuple[Step, ...]] = ()
