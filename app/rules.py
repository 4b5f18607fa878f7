"""The rules file: the one shipped with the application, or another one."""

import tomllib
from importlib.resources import files
from pathlib import Path

from app.domain.rule_file import RulesError, read_rules
from app.domain.rules import RuleSet


def load_rules(path: Path | None) -> RuleSet:
    """The rules of a file; None: those shipped with the application. Raises RulesError, which says what is wrong and what is allowed."""
    source = path if path is not None else files("app").joinpath("rules.toml")
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise RulesError(
            f"{source}: {error.strerror}. Set BANKSTREAM_RULES_FILE to a readable file, or unset it."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{source}: this is no TOML: {error}. Correct the file and start again.") from None
    return read_rules(document, str(source))
