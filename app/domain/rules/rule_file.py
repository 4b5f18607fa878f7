"""Reads a rules document (parsed TOML) into a rule set. An error lists every problem and the allowed values."""

from collections.abc import Mapping
from typing import Any

from app.domain.rules.fields import Fields, RulesError
from app.domain.rules.kinds import KINDS
from app.domain.rules.rule import Rule, RuleSet


def read_rules(document: Mapping[str, Any], file: str) -> RuleSet:
    """Returns the rules of a document; `file` is its name, for messages. Raises RulesError."""
    problems: list[str] = []
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise RulesError(f"{file}: there are no rules; allowed: one [[rule]] table for each")
    problems += [f"{name!r} is unknown; allowed: [[rule]] tables" for name in document if name != "rule"]
    rules: dict[str, Rule] = {}
    for number, table in enumerate(tables, 1):
        place = f"rule {table['id']!r}" if isinstance(table.get("id"), str) else f"rule number {number}"
        kind = table.get("kind")
        reader = KINDS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            problems.append(f"{place}: kind = {kind!r}; allowed: {', '.join(KINDS)}")
            continue
        fields = Fields(table, place, problems)
        rule = reader(fields)
        fields.finish()
        if rule.id in rules:
            problems.append(f"{place}: id {rule.id!r} is used twice; allowed: each once")
        rules[rule.id] = rule
    if problems:
        raise RulesError(f"{file}: {'; '.join(problems)}. Correct the file and start again.")
    return RuleSet(tuple(rules.values()))
