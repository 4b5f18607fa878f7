"""Defines the bodies of the answers, and their schemas in OpenAPI.

Column values are the source's own JSON text.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Columns = dict[str, msgspec.Raw]

Instant = Annotated[str, Meta(description="RFC 3339, UTC, microseconds", examples=["2026-03-02T09:00:00.000000Z"])]
Amount = Annotated[str, Meta(description="decimal text", pattern=r"^-?\d+\.\d{2}$", examples=["1250.00"])]
Masked = Annotated[
    list[str],
    Meta(description='columns that show "***" because the token lacks the scope `pii`', examples=[["name", "email"]]),
]
Id = Annotated[int, Meta(examples=[42])]
VersionId = Annotated[str, Meta(examples=["6f0f1c3b0c5f4f6f8a51c1d7c1c6a1f2"])]
Attributes = Annotated[
    Columns,
    Meta(
        description="every column as the source has it; NUMERIC columns are decimal text",
        extra_json_schema={
            "examples": [{"customer_id": 42, "name": "***", "country_code": "NO", "risk_rating": "low"}]
        },
    ),
]


class State(msgspec.Struct, frozen=True):
    """The committed state that the answer was read from."""

    group: Annotated[str, Meta(examples=["by-customer"])]
    partition: Annotated[int, Meta(examples=[3])]
    positions: Annotated[
        dict[str, int],
        Meta(
            description="by input topic, the first offset that is not included",
            extra_json_schema={"examples": [{"bank.public.customers": 1200}]},
        ),
    ]


class RowNow(msgspec.Struct, frozen=True):
    """The current row."""

    id: Id
    version_id: VersionId
    valid_from: Instant
    attributes: Attributes
    masked: Masked
    state: State


class Amounts(msgspec.Struct, frozen=True):
    """Amounts of one currency over the counted transactions of a window, credits and debits together."""

    sum: Amount
    average: Amount
    max: Amount


class WindowNow(msgspec.Struct, frozen=True):
    """The transactions in (as_of - length, as_of]."""

    count: Annotated[int, Meta(ge=0, examples=[7])]
    declined_count: Annotated[int, Meta(ge=0, examples=[0])]
    distinct_counterparties: Annotated[int, Meta(ge=0, examples=[3])]
    distinct_countries: Annotated[int, Meta(ge=0, examples=[1])]
    amounts: Annotated[dict[str, Amounts], Meta(description="by currency")]


class VelocityNow(msgspec.Struct, frozen=True):
    """A customer's windows that end at `as_of`."""

    customer_id: Id
    as_of: Instant
    windows: Annotated[
        dict[str, WindowNow | None],
        Meta(
            description="1m, 5m, 1h, 24h, 7d, 30d; null for a window with more transactions than the limit for an answer"
        ),
    ]
    complete: Annotated[bool, Meta(description="whether no window is null")]
    state: State


class Version(msgspec.Struct, frozen=True):
    """A version of a row, valid in [valid_from, valid_to)."""

    version_id: VersionId
    valid_from: Instant
    valid_to: Annotated[Instant | None, Meta(description="null for the current version")]
    attributes: Attributes
    changed: Annotated[list[str], Meta(description="columns whose change opened the version", examples=[["city"]])]
    reason: Annotated[str, Meta(examples=["updated"])]
    closed_by: Annotated[str | None, Meta(examples=["superseded"])]
    masked: Masked


class Versions(msgspec.Struct, frozen=True):
    """A row's versions, newest first."""

    id: Id
    versions: list[Version]
    total: Annotated[int, Meta(ge=0, description="the number of all versions", examples=[3])]
    state: State


class Alert(msgspec.Struct, frozen=True):
    """An alert and its position in the topic."""

    partition: Annotated[int, Meta(examples=[3])]
    offset: Annotated[int, Meta(examples=[118])]
    alert: Annotated[
        msgspec.Raw,
        Meta(
            description="the record of bank.alerts",
            extra_json_schema={
                "type": "object",
                "examples": [
                    {"alert_id": "threshold:7-31-1001", "rule": "threshold", "severity": "high", "customer_id": 7}
                ],
            },
        ),
    ]


class Alerts(msgspec.Struct, frozen=True):
    """The most recent alerts, newest first."""

    alerts: list[Alert]
    last_event_id: Annotated[
        str,
        Meta(
            description="the event id with which a live stream continues without a gap",
            examples=["0:119,1:87,2:140,3:98"],
        ),
    ]


class Health(msgspec.Struct, frozen=True):
    """The health of the worker."""

    status: Annotated[str, Meta(examples=["ready"])]


def components(*kinds: Any) -> tuple[dict[str, Any], ...]:
    """Returns schemas that refer to `#/components/schemas`, and the schemas that they refer to."""
    schemas, parts = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return (*schemas, parts)
