"""What a trace came to: steps within steps, each with what was checked there. For programs as it is, for people as a tree."""

from typing import Final, Literal

import msgspec
from rich.text import Text
from rich.tree import Tree

Verdict = Literal["holds", "differs", "unreachable", "noted"]
"""differs: two places that must agree do not. unreachable: a place did not answer. noted: a fact that proves nothing either way."""

WORST_FIRST: Final[tuple[Verdict, ...]] = ("differs", "unreachable", "holds")
MARKS: Final[dict[Verdict, tuple[str, str]]] = {
    "holds": ("✓", "green"),
    "differs": ("✗", "bold red"),
    "unreachable": ("?", "yellow"),
    "noted": ("·", "dim"),
}


class Check(msgspec.Struct, frozen=True):
    """One question and its answer."""

    verdict: Verdict
    what: str


class Step(msgspec.Struct, frozen=True):
    """A place on the way: what it is, where, what was checked there, and what it came from."""

    name: str
    place: str
    checks: tuple[Check, ...] = ()
    steps: "tuple[Step, ...]" = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of everything below: a difference, else something unreachable, else that all of it holds."""
        found = {check.verdict for check in self.checks} | {step.verdict for step in self.steps}
        return next((verdict for verdict in WORST_FIRST if verdict in found), "noted")


class Trace(msgspec.Struct, frozen=True):
    """What `bankstream trace --json` prints."""

    table: str
    key: str
    verdict: Verdict
    way: Step
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: every check holds. 1: something differs. 2: nothing differs, but a place could not be asked."""
        return {"differs": 1, "unreachable": 2}.get(self.verdict, 0)

    def differences(self) -> list[str]:
        """What differs, with its place."""
        return list(_differences(self.way))


def holds(what: str) -> Check:
    """An answer that is yes."""
    return Check("holds", what)


def differs(what: str) -> Check:
    """An answer that is no."""
    return Check("differs", what)


def unreachable(what: str) -> Check:
    """No answer."""
    return Check("unreachable", what)


def noted(what: str) -> Check:
    """A fact beside the proof."""
    return Check("noted", what)


def judged(truth: object, yes: str, no: str) -> Check:
    """An answer by the truth of something."""
    return holds(yes) if truth else differs(no)


def tree(found: Trace) -> Tree:
    """The whole way, for a terminal. Values of columns are not in it: names, positions and hashes are."""
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
    """Without control characters: a record may hold sequences that command a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _differences(step: Step) -> list[str]:
    own = [f"{step.name} {step.place}: {check.what}" for check in step.checks if check.verdict == "differs"]
    return own + [line for below in step.steps for line in _differences(below)]
