"""The kinds of rules, one a file. A kind's name in rules.toml is its file's name; `read` in the file makes a rule from its fields.

A file that is added here is a new kind: nothing else lists them.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Final

from app.domain.rules.fields import Fields
from app.domain.rules.rule import Rule

KINDS: Final[dict[str, Callable[[Fields], Rule]]] = {
    found.name: importlib.import_module(f"{__name__}.{found.name}").read for found in pkgutil.iter_modules(__path__)
}
"""What reads a rule of each kind, in the order of the kinds' names."""
