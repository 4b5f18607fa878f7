"""Tests that a value is decoded to the same text for each of the connector's modes."""

from typing import Any

import msgspec
import pytest

from app.cdc.envelope import decode
from app.errors import PoisonRecordError
from tests.support.bank.cdc import COMMIT_US, json_bytes


def read(name: str, value: Any, **parameters: str) -> bytes:
    column = {"field": "x", "type": "any", "name": name, **({"parameters": parameters} if parameters else {})}
    schema = {
        "type": "struct",
        "fields": [{"type": "struct", "field": image, "fields": [column]} for image in ("before", "after")],
    }
    payload = {"op": "c", "before": None, "after": {"x": value}, "source": {"table": "t", "ts_us": COMMIT_US}}
    change = decode(json_bytes({"schema": schema, "payload": payload}), (), "t")
    assert change is not None
    assert change.after is not None
    return bytes(change.after["x"])


@pytest.mark.parametrize(
    ("name", "value", "parameters", "expected"),
    [
        ("org.apache.kafka.connect.data.Decimal", "AfQ=", {"scale": "2"}, "5.00"),
        ("org.apache.kafka.connect.data.Decimal", "/w==", {"scale": "2"}, "-0.01"),
        ("org.apache.kafka.connect.data.Decimal", "DeC2s6dj//8=", {"scale": "2"}, "9999999999999999.99"),
        ("org.apache.kafka.connect.data.Decimal", "AQ==", {"scale": "0"}, "1"),
        ("io.debezium.data.VariableScaleDecimal", {"scale": 3, "value": "BGU="}, {}, "1.125"),
        ("io.debezium.time.Date", -56270, {}, "1815-12-10Z"),
        ("org.apache.kafka.connect.data.Date", 0, {}, "1970-01-01Z"),
        ("io.debezium.time.Timestamp", 1_772_442_000_000, {}, "2026-03-02T09:00:00.000000Z"),
        ("io.debezium.time.MicroTimestamp", 1_772_442_000_000_001, {}, "2026-03-02T09:00:00.000001Z"),
        ("io.debezium.time.NanoTimestamp", 1_772_442_000_000_001_000, {}, "2026-03-02T09:00:00.000001Z"),
        ("io.debezium.time.MicroTimestamp", 9_223_372_036_825_200_000, {}, "infinity"),
        ("io.debezium.time.MicroTimestamp", -9_223_372_036_832_400_000, {}, "-infinity"),
        ("io.debezium.time.MicroTime", 86_400_000_000, {}, "24:00:00Z"),
        ("io.debezium.time.ZonedTimestamp", "2026-11-23T13:19:55.901071Z", {}, "2026-11-23T13:19:55.901071Z"),
    ],
)
def test_an_encoded_value_becomes_the_text_that_our_own_connector_sends(
    name: str, value: Any, parameters: dict[str, str], expected: str
) -> None:
    assert msgspec.json.decode(read(name, value, **parameters)) == expected


def test_null_stays_null() -> None:
    assert read("org.apache.kafka.connect.data.Decimal", None, scale="2") == b"null"


@pytest.mark.parametrize("value", ["", "%%%", 5, {"scale": 2}])
def test_a_value_unlike_its_schema_is_refused(value: Any) -> None:
    with pytest.raises(PoisonRecordError) as refused:
        read("org.apache.kafka.connect.data.Decimal", value, scale="2")
    assert refused.value.reason == "bad_value"
