"""Defines the models whose rows can be traced: the key of a row, and the kind of records that it was made from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from app.config.topics import ALERTS, SCD2_ACCOUNTS, SCD2_CUSTOMERS, VELOCITY
from app.domain.captured import CapturedTable, KeyType
from app.operations.dbt.columns import warehouse_names
from app.operations.dbt.silver import Names

MAX_BIGINT: Final = (1 << 63) - 1

Kind = Literal["version", "row", "record"]
"""The origin of a model's rows: a version's open and close records, a raw change, or a derived record."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the warehouse. `key`: the columns that identify a row, by their names in the source. `version_key`: the column of a
    version's id."""

    relation: str
    kind: Kind
    key: Mapping[str, KeyType]
    topic: str = ""
    version_key: str = ""
    newest: str = "source_offset DESC"
    """The SQL order in which the newest row is first."""

    @property
    def columns(self) -> list[str]:
        """The columns of the key by their names in the warehouse."""
        return [*self.named(self.key).values()]

    @property
    def column(self) -> str:
        """The column of a key of one column."""
        [column] = self.columns
        return column

    def named(self, columns: Iterable[str]) -> dict[str, str]:
        """Returns the warehouse's names of source columns, in lower case. Columns without such a name are left out."""
        return {column: name.lower() for column, name in warehouse_names(columns, self.key).items()}

    def read_key(self, text: str) -> dict[str, int | str]:
        """Parses a key, by the warehouse's columns. A key of several columns is a JSON array or name=value pairs. ValueError if invalid.

        >>> model = Model("SILVER.CARDS", "row", {"branch": "text", "number": "integer"})
        >>> model.read_key('["Bern, Wankdorf", 7]') == model.read_key('["Bern, Wankdorf", "7"]'), model.read_key("number=7,branch=Bern")
        (True, {'branch': 'Bern', 'number': 7})
        """
        parts = [text] if len(self.key) == 1 else self._parts(text)
        return {
            column: _value(name, kind, part)
            for column, (name, kind), part in zip(self.columns, self.key.items(), parts, strict=True)
        }

    def _parts(self, text: str) -> list[str]:
        if text.lstrip().startswith("["):
            try:
                found = msgspec.json.decode(text, type=list[str | int])
            except msgspec.MsgspecError:
                found = []
            parts = [str(part) for part in found]
        else:
            pairs = dict(pair.partition("=")[::2] for pair in text.split(","))
            parts = [pairs[name] for name in self.key if name in pairs] if pairs.keys() == self.key.keys() else []
        if len(parts) != len(self.key):
            example = ",".join(f"{name}=…" for name in self.key)
            array = ", ".join("0" if kind == "integer" else '"…"' for kind in self.key.values())
            raise ValueError(f"{text!r} is not a key of {', '.join(self.key)}: use {example}, or [{array}] as JSON")
        return parts


def _value(name: str, kind: KeyType, text: str) -> int | str:
    if kind == "text":
        return text
    if not text.removeprefix("-").isdecimal() or abs(int(text)) > MAX_BIGINT:
        raise ValueError(f"{text!r} is not a {name}, which is a whole number of 64 bits")
    return int(text)


def _number(column: str) -> dict[str, KeyType]:
    return {column: "integer"}


MODELS: Final = {
    "dim_customer": Model(
        "GOLD.DIM_CUSTOMER", "version", _number("customer_id"), topic=SCD2_CUSTOMERS.name, version_key="customer_version_id",
        newest="version_number DESC",
    ),
    "dim_account": Model(
        "GOLD.DIM_ACCOUNT", "version", _number("account_id"), topic=SCD2_ACCOUNTS.name, version_key="account_version_id",
        newest="version_number DESC",
    ),
    "fct_transactions": Model("GOLD.FCT_TRANSACTIONS", "row", _number("transaction_id")),
    "fct_alerts": Model("GOLD.FCT_ALERTS", "record", {"alert_id": "text"}, topic=ALERTS.name),
    "fct_velocity": Model(
        "GOLD.FCT_VELOCITY", "record", _number("transaction_id"), topic=VELOCITY.name, newest="record_offset DESC"
    ),
}  # fmt: skip
"""The traceable models of gold. Each captured table also has one in silver."""


def traceable(tables: Iterable[CapturedTable]) -> dict[str, Model]:
    """Returns every traceable model by the name that the command takes: for a captured table, the source's name."""
    current = {table.name: Model(f"SILVER.{Names.of(table).current.upper()}", "row", table.key) for table in tables}
    return {**current, **MODELS}
