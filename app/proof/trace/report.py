"""Defines the report of a trace, nested steps with their checks, and prints it as a tree."""

from typing import Final, Literal

import msgspec
from rich.text import Text
from rich.tree import Tree

Verdict = Literal["holds", "differs", "unreachable", "noted"]
"""differs: two places that must agree do not. unreachable: a place did not answer. noted: a fact that is not evidence either way."""

WORST_FIRST: Final[tuple[Verdict, ...]] = ("differs", "unreachable", "holds")
MARKS: Final[dict[Verdict, tuple[str, str]]] = {
    "holds": ("✓", "green"),
    "differs": ("✗", "bold red"),
    "unreachable": ("?", "yellow"),
    "noted": ("·", "dim"),
}


class Check(msgspec.Struct, frozen=True):
    """One check and its verdict."""

    verdict: Verdict
    what: str


class Step(msgspec.Struct, frozen=True):
    """A step of a trace: its name, its place, its checks, and the steps that it was made from."""

    name: str
    place: str
    checks: tuple[Check, ...] = ()
    steps: "tuple[Step, ...]" = ()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the step and all steps below it: differs, then unreachable, then holds."""
        found = {check.verdict for check in self.checks} | {step.verdict for step in self.steps}
        return next((verdict for verdict in WORST_FIRST if verdict in found), "noted")


class Trace(msgspec.Struct, frozen=True):
    """The report that `bankstream trace --json` prints."""

    table: str
    key: str
    verdict: Verdict
    way: Step
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: every check holds. 1: a check differs. 2: no check differs, but a place did not answer."""
        return {"differs": 1, "unreachable": 2}.get(self.verdict, 0)

    def differences(self) -> list[str]:
        """Returns a line for each check that differs, with its place."""
        return list(_differences(self.way))


def holds(what: str) -> Check:
    """Returns a check that holds."""
    return Check("holds", what)


def differs(what: str) -> Check:
    """Returns a check that differs."""
    return Check("differs", what)


def unreachable(what: str) -> Check:
    """Returns a check of a place that did not answer."""
    return Check("unreachable", what)


def noted(what: str) -> Check:
    """Returns a fact that is not evidence."""
    return Check("noted", what)


def judged(truth: object, yes: str, no: str) -> Check:
    """Returns a check that holds with text `yes` if `truth` is true, else one that differs with text `no`."""
    return holds(yes) if truth else differs(no)


def tree(found: Trace) -> Tree:
    """Returns the trace as a tree for a terminal. It contains names, positions and hashes, but no values of columns."""
    root = Tree(_line(found.way.verdict, found.way.name, found.way.place), guide_style="dim")
    _grow(root, found.way)
    return root


def _grow(branch: Tree, step: Step) -> None:
    for check in step.checks:
        branch.add(_line(check.verdict, "", check.what))
    for below in step.steps:
        _grow(branch.add(_line(below.verdict, below.name, below.place)), below)


def _line(verdict: Verdict, name: str, rest: str) -> Text:
    mark, style = MARKS[verdict]
    text = Text()
    text.append(f"{mark} ", style=style)
    if name:
        text.append(f"{name}  ", style="bold")
    text.append(_printable(rest), style=style if verdict in ("differs", "noted") else "")
    return text


def _printable(text: str) -> str:
    """Escapes control characters, because a record may contain terminal escape sequences."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _differences(step: Step) -> list[str]:
    own = [f"{step.name} {step.place}: {check.what}" for check in step.checks if check.verdict == "differs"]
    return own + [line for below in step.steps for line in _differences(below)]
