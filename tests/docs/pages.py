"""Reads the pages of the documentation and extracts what can be checked: commands, shell blocks, variables, links."""

import re
import shlex
from dataclasses import dataclass
from functools import cache

from tests.support.paths import PROJECT

PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")), *sorted((PROJECT / "ops").rglob("*.md")))
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]


@dataclass(frozen=True)
class Block:
    """A fenced block of shell."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def read(name: str) -> str:
    """A page's text."""
    return (PROJECT / name).read_text(encoding="utf-8")


@cache
def blocks() -> list[Block]:
    """Every fenced block of shell."""
    pattern = re.compile(r"^ *```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
    return [
        Block(name, read(name).count("\n", 0, match.start(1)) + 1, match[1])
        for name in NAMES
        for match in pattern.finditer(read(name))
    ]


def commands(program: str) -> list[tuple[str, tuple[str, ...], bool]]:
    """Every mention of a program in code: page, arguments, and whether it is a line of a block, which must be a complete command."""
    found: set[tuple[str, tuple[str, ...], bool]] = set()
    for name in NAMES:
        text = re.sub(
            r"^ *```(?!sh\n).*?^ *```", "", read(name).replace("```sh\n", "\0"), flags=re.DOTALL | re.MULTILINE
        )
        text = text.replace("\0", "```sh\n")
        inline = [(code, False) for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
        whole = [(line, True) for block in blocks() if block.page == name for line in _lines(block.text)]
        for code, complete in inline + whole:
            for part in re.split(r"&&|\|\||;|\$\(|(?<= )\| ", code):
                words = part.split(" #")[0].split(" > ")[0].strip()
                if words.startswith(f"{program} "):
                    found.update((name, alternative, complete) for alternative in _alternatives(words))
    return sorted(found)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\\\n", " ").splitlines()]


def _alternatives(words: str) -> list[tuple[str, ...]]:
    """`bankstream stack up|down` is two commands."""
    arguments = shlex.split(words.rstrip(')"')) if words.count('"') % 2 else shlex.split(words)
    found: list[tuple[str, ...]] = [()]
    for argument in arguments[1:]:
        parts = argument.split("|") if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", argument) else [argument]
        found = [(*before, part) for before in found for part in parts]
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub generates them."""
    headings = re.findall(r"^#+ +(.+?) *$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
