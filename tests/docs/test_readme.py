"""Tests that commands in README and docs can be parsed, that the names in them exist, and that links have a target."""

import re
import subprocess
from typing import Any

import pytest
import typer

from app.cli.main import app
from app.config import settings_page
from tests.docs.pages import NAMES, Block, anchors, blocks, commands, read
from tests.support.paths import PROJECT

CLI: Any = typer.main.get_command(app)
USAGE_ERROR: Any = typer.BadParameter.__base__
"""Typer has a Click of its own, so that `USAGE_ERROR` may be another class."""


def parsed(arguments: tuple[str, ...], *, whole: bool) -> None:
    """Parses a command line as the program does, without checking the values. Raises UsageError if it is invalid."""
    command, context, rest = CLI, CLI.context_class(CLI, info_name="bankstream"), list(arguments)
    while hasattr(command, "resolve_command") and rest and not rest[0].startswith("-"):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        assert name is not None
        command, context = found, found.context_class(found, info_name=name, parent=context)
    if hasattr(command, "resolve_command") and whole:
        raise USAGE_ERROR(f"{arguments} is no whole command")
    values, left, _ = command.make_parser(context).parse_args([word for word in rest if word not in ("…", "...")])
    if left:
        raise USAGE_ERROR(f"{left} are too many words")
    missing = [one.name for one in command.params if one.required and values.get(str(one.name)) in (None, (), [])]
    if whole and missing:
        raise USAGE_ERROR(f"{missing} are missing")


@pytest.mark.parametrize(("page", "arguments", "whole"), commands("bankstream"), ids=lambda found: str(found)[:80])
def test_every_bankstream_command_in_the_docs_can_be_typed(page: str, arguments: tuple[str, ...], whole: bool) -> None:  # noqa: ARG001 - in the id
    parsed(arguments, whole=whole)


@pytest.mark.parametrize(
    "wrong",
    [
        "stak up",
        "stack sideways",
        "stack",
        "trace --tabel x",
        "trace --key",
        "trace --key 1",
        "version x",
    ],
)
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    with pytest.raises(USAGE_ERROR):
        parsed(tuple(wrong.split()), whole=True)


def test_the_docs_contain_commands() -> None:
    assert len(commands("bankstream")) >= 20
    assert len(blocks()) >= 5


@pytest.mark.parametrize(("page", "arguments", "whole"), commands("make"), ids=lambda found: str(found)[:80])
def test_every_make_target_in_the_docs_exists(page: str, arguments: tuple[str, ...], whole: bool) -> None:  # noqa: ARG001 - in the id
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in arguments if "=" not in word]
    assert [word for word in targets if not re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_block_of_shell_is_shell(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_in_the_docs_is_a_setting(name: str) -> None:
    known = {found.variable for found in settings_page.every()}
    named = set(re.findall(r"\bBANKSTREAM_[A-Z0-9_]*", read(name)))
    wrong = [
        one
        for one in named - known - {"BANKSTREAM_", "BANKSTREAM_TEST_SNOWFLAKE", "BANKSTREAM_TEST_CHROMIUM"}
        if not (one.endswith("_") and any(found.startswith(one) for found in known))
        and not one.startswith(settings_page.FOREIGN)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = PROJECT / name
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", read(name), flags=re.DOTALL)):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        if "://" not in target and (
            not found.exists() or (anchor and anchor not in anchors(found.read_text(encoding="utf-8")))
        ):
            wrong.append(target)
    assert wrong == []


def test_the_reference_of_settings_equals_the_classes() -> None:
    assert read("docs/CONFIGURATION.md") == settings_page.markdown(), (
        "settings have changed: run `bankstream settings --markdown > docs/CONFIGURATION.md`"
    )


def test_every_setting_is_described() -> None:
    found = list(settings_page.every())
    assert [one.variable for one in found if not one.description] == []
    assert len({one.variable for one in found}) == len(found) > 90
