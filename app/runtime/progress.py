"""Defines the type of a callback that receives the progress of a long command."""

from collections.abc import Callable

OnProgress = Callable[[str], object]
"""Receives one line of text. Its return value is ignored."""
