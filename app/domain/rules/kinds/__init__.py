"""Defines the kinds of rules, one file each: the file's name is the kind in rules.toml; `read` creates a rule from its fields.
May import only app.domain. A new file here is a new kind; no other list of kinds exists.
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
"""The `read` function of each kind, in the order of the kinds' names."""
