"""The type of a callback that is told what a long command is doing."""

from collections.abc import Callable

OnProgress = Callable[[str], object]
"""Gets one line of text; what it returns is not used."""
