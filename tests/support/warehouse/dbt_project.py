"""Reads the manifest that dbt generates from dbt/, as far as tests use it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class Column(msgspec.Struct):
    """A column as its model describes it."""

    description: str | None = None
    data_type: str | None = None


class DependsOn(msgspec.Struct):
    """The inputs of a node."""

    nodes: list[str] = []


class Node(msgspec.Struct):
    """A model, snapshot, source, test or exposure."""

    unique_id: str
    resource_type: str
    name: str
    description: str | None = None
    schema: str | None = None
    group: str | None = None
    owner: dict[str, Any] = {}
    columns: dict[str, Column] = {}
    depends_on: DependsOn = msgspec.field(default_factory=DependsOn)

    @property
    def relation(self) -> str:
        """Schema and name, as Snowflake writes them."""
        return f"{self.schema}.{self.name}".upper()


class Manifest(msgspec.Struct):
    """All nodes of the project."""

    nodes: dict[str, Node]
    sources: dict[str, Node]
    exposures: dict[str, Node]
    groups: dict[str, Node]

    @classmethod
    def of(cls, home: Path) -> "Manifest":
        """The manifest of the last run of `app.operations.dbt.build.build` with this BANKSTREAM_HOME."""
        return cls.read(home / "dbt" / "target")

    @classmethod
    def read(cls, target: Path) -> "Manifest":
        """The manifest of the last run of dbt with this target directory."""
        return msgspec.json.decode((target / "manifest.json").read_bytes(), type=cls)

    @property
    def built(self) -> list[Node]:
        """Models and snapshots."""
        return [node for node in self.nodes.values() if node.resource_type in ("model", "snapshot")]

    def relations(self) -> list[str]:
        """All tables and views that dbt creates."""
        return sorted(node.relation for node in self.built)

    def readers(self, unique_id: str) -> Iterator[Node]:
        """Models and snapshots that depend on this one, directly or indirectly."""
        for node in self.built:
            if unique_id in node.depends_on.nodes:
                yield node
                yield from self.readers(node.unique_id)
