"""Tests segments and object names: a segment that is cut again has the same lines."""

import pytest

from app.errors import ContinuityError
from sinks import chain
from sinks.base import ChainKey, LakeObject, ObjectStat
from sinks.segment import Segment, digest, lines

KEY = ChainKey("bank.alerts", "id-1", 2)


def segment(*offsets: int) -> Segment:
    made = Segment(3, 0.0)
    for offset in offsets:
        made.add(offset, b'{"offset":%d}\n' % offset)
    return made


@pytest.mark.parametrize(
    ("offset", "rest"), [(-1, [3, 5, 6]), (2, [3, 5, 6]), (3, [5, 6]), (4, [5, 6]), (5, [6]), (6, []), (9, [])]
)
def test_the_rest_of_a_segment_after_an_offset_has_the_same_lines(offset: int, rest: list[int]) -> None:
    left = segment(3, 5, 6).after(offset)
    assert left.offsets == rest
    assert list(lines(left.body())) == [b'{"offset":%d}\n' % n for n in rest]


def test_equal_records_give_equal_bytes() -> None:
    assert digest(segment(1, 2).body()) == digest(segment(0, 1, 2).after(0).body())


def test_a_name_says_chain_and_start() -> None:
    name = chain.name(KEY, 12)
    assert name == "bank.alerts/id-1/2/00000000000000000012.ndjson.zst"
    assert chain.parse(name) == (KEY, 12)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b/c/d",
        "a/b/0/1.ndjson.zst",
        "../b/0/00000000000000000012.ndjson.zst/",
        "a/b/0/00000000000000000012.ndjson.zst'",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a lake object"):
        chain.parse(name)


def test_an_object_is_described_by_its_metadata_as_it_was_written() -> None:
    found = LakeObject(chain.name(KEY, 4), KEY.topic, KEY.partition, 6, 9, 3, 100, "ab", 3, "cd")
    assert chain.parse_metadata(found.object, ObjectStat(100, chain.metadata(found))) == found
    assert chain.follows(found, 3, "cd")
    assert not chain.follows(found, 3, "ce")


@pytest.mark.parametrize(
    "change", [{"rows": "x"}, {"first-offset": "3"}, {"last-offset": "5"}, {"previous-last-offset": "4"}]
)
def test_metadata_that_contradict_the_name_or_themselves_are_refused(change: dict[str, str]) -> None:
    found = LakeObject(chain.name(KEY, 4), KEY.topic, KEY.partition, 6, 9, 3, 100, "ab", 3, "cd")
    with pytest.raises(ContinuityError):
        chain.parse_metadata(found.object, ObjectStat(100, chain.metadata(found) | change))
    with pytest.raises(ContinuityError):
        chain.parse_metadata(found.object, ObjectStat(100, {}))
