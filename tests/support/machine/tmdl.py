"""Parses the part of TMDL (the text form of Power BI's models) that ops/powerbi uses, and rejects everything else.

A line is an object (`column amount`, `measure 'Net amount' = …`), a property (`dataType: string`), or a flag (`isKey`); a line that is
indented by one more tab belongs to the line above. `source =` is followed by an expression that is indented by two more. A description
(`///`) is directly above its object.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

OBJECT = re.compile(
    r"(ref table|database|model|table|column|measure|partition|expression|relationship)"
    r"(?: (?P<name>'(?:[^']|'')+'|[\w-]+))?(?: = (?P<value>.+))?"
)
PROPERTY = re.compile(r"(?P<name>[A-Za-z]+): (?P<value>\S.*)")
FLAG = re.compile(r"isKey|dataAccessOptions|legacyRedirects|returnErrorValuesAsNull")
BLOCK = re.compile(r"(?P<name>source) =")


class TmdlError(ValueError):
    """A line that is invalid at its place. The message has its number."""


@dataclass
class Node:
    """An object with its properties and child objects."""

    kind: str
    name: str = ""
    value: str = ""
    description: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    nodes: list["Node"] = field(default_factory=list)

    def of(self, kind: str) -> list["Node"]:
        """The direct child objects of a kind."""
        return [node for node in self.nodes if node.kind == kind]

    def only(self, kind: str) -> "Node":
        """The only direct child object of a kind."""
        (found,) = self.of(kind)
        return found


def parse(text: str) -> Node:
    """Parses a file into a node of kind `file`. TmdlError names the invalid line."""
    root = Node("file")
    above = [root]
    description: list[str] = []
    lines = enumerate(text.split("\n"), 1)
    for number, line in lines:
        content = line.lstrip("\t")
        if description and not content.startswith("///") and not OBJECT.fullmatch(content):
            raise TmdlError(f"line {number}: a description stands above no object")
        if not content:
            continue
        depth = _depth(line, content, above, number)
        del above[depth + 1 :]
        if content.startswith("///"):
            description.append(content[3:].strip())
        elif block := BLOCK.fullmatch(content):
            _set(above[-1], block["name"], "\n".join(_expression(lines, depth)), number)
        elif found := PROPERTY.fullmatch(content):
            _set(above[-1], found["name"], found["value"], number)
        else:
            above.append(_object(content, above[-1], " ".join(description), number))
            description.clear()
    return root


def _depth(line: str, content: str, above: list[Node], number: int) -> int:
    if content != content.strip() or "\t" in content:
        raise TmdlError(f"line {number}: indentation is by tabs alone, and nothing stands behind a line")
    depth = len(line) - len(content)
    if depth >= len(above):
        raise TmdlError(f"line {number}: belongs to no object")
    return depth


def _object(content: str, parent: Node, description: str, number: int) -> Node:
    if FLAG.fullmatch(content):
        _set(parent, content, "true", number)
        return Node(content)  # dataAccessOptions has child flags
    found = OBJECT.fullmatch(content)
    if found is None:
        raise TmdlError(f"line {number}: neither an object nor a property: {content[:60]}")
    node = Node(found[1], (found["name"] or "").strip("'").replace("''", "'"), found["value"] or "", description)
    parent.nodes.append(node)
    return node


def _set(node: Node, name: str, value: str, number: int) -> None:
    if name in node.properties:
        raise TmdlError(f"line {number}: {name} is there twice")
    node.properties[name] = value


def _expression(lines: Iterator[tuple[int, str]], depth: int) -> Iterator[str]:
    """The lines of an expression, to the empty line after it."""
    for number, line in lines:
        if not line:
            return
        if not line.startswith("\t" * (depth + 2)):
            raise TmdlError(f"line {number}: an expression is indented by two more tabs and ends with an empty line")
        yield line[depth + 2 :]
