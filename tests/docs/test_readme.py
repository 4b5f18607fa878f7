"""What README and docs tell people to type exists, and what they point to is there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app

PROJECT = Path(__file__).resolve().parents[2]
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]


def commands(program: str) -> list[tuple[str, ...]]:
    """Every mention of a program with its arguments, in code: `like this`, or a line of a block."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(
        r"^ {0,4}(\S.*)$", "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)), re.MULTILINE
    )
    found = {
        tuple(shlex.split(part.split("#")[0].strip().rstrip(")").rstrip('"')))[1:]
        for line in code
        for part in re.split(r"&&|;|\$\(", line)
        if part.strip().startswith(f"{program} ") and '"' not in part.split("#")[0]
    }
    return sorted(found)


@pytest.mark.parametrize("arguments", commands("bankstream"), ids=" ".join)
def test_every_bankstream_command_in_the_docs_exists(arguments: tuple[str, ...]) -> None:
    words = [word for word in arguments if re.fullmatch(r"[a-z][a-z-]*", word)]
    options = [word.split("=")[0] for word in arguments if word.startswith("--")]
    result = CliRunner().invoke(app, [*words[:1], "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    helps = result.output
    if len(words) > 1 and f" {words[1]} " in helps:
        nested = CliRunner().invoke(app, [*words[:2], "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
        assert nested.exit_code == 0, nested.output
        helps += nested.output
    assert [option for option in options if option not in helps] == []


def test_the_docs_name_commands_at_all() -> None:
    assert len(commands("bankstream")) >= 8


@pytest.mark.parametrize("arguments", commands("make"), ids=" ".join)
def test_every_make_target_in_the_docs_exists(arguments: tuple[str, ...]) -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(arguments[0])}:", makefile, re.MULTILINE), arguments


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = PROJECT / name
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []
