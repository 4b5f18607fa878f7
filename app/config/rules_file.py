"""The rules file: the one shipped with the application, or another one."""

from pathlib import Path

from app.config.toml_file import read_toml
from app.domain.rules.fields import RulesError
from app.domain.rules.rule import RuleSet
from app.domain.rules.rule_file import read_rules


def load_rules(path: Path | None) -> RuleSet:
    """The rules of a file; None: those shipped with the application. Raises RulesError, which says what is wrong and what is allowed."""
    document, name = read_toml(path, shipped="rules.toml", variable="BANKSTREAM_RULES_FILE", error=RulesError)
    return read_rules(document, name)
