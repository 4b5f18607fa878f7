"""Reads the rules file: the shipped file, or the one that BANKSTREAM_RULES_FILE names."""

from pathlib import Path

from app.config.toml_file import read_toml
from app.domain.rules.fields import RulesError
from app.domain.rules.rule import RuleSet
from app.domain.rules.rule_file import read_rules


def load_rules(path: Path | None) -> RuleSet:
    """Returns the rules of a file; None: of the shipped file. Raises RulesError, which names the invalid part and the allowed values."""
    document, name = read_toml(path, shipped="rules.toml", variable="BANKSTREAM_RULES_FILE", error=RulesError)
    return read_rules(document, name)
