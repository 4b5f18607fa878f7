"""Tests replay: equal input gives equal bytes, and a repeated log adds nothing."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from typer.testing import CliRunner

from app.cli.main import app
from app.config.settings import WorkerSettings
from app.engine.memory import EmittedRecord
from app.proof.replay.outputs import Outputs
from app.proof.replay.recording import Recorded, RecordingError, read
from app.proof.replay.run import Replay, Summary
from tests.support.bank.cdc import CdcLog
from tests.support.bank.golden import CAPTURED, GOLDEN, golden
from tests.support.catalogue import CATALOGUE


def replay(out: Path, *files: Path) -> Summary:
    with Outputs(out, OUTPUTS) as outputs:
        return Replay(CATALOGUE, WorkerSettings()).run(read(files, INPUTS, lambda _: None), outputs)


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


INPUTS = frozenset(topic.name for topic in CATALOGUE.cdc)
OUTPUTS = [topic.name for topic in CATALOGUE.derived]


def lines() -> list[dict[str, Any]]:
    text = zstandard.ZstdDecompressor().stream_reader(CAPTURED.read_bytes(), read_across_frames=True).read()
    return [json.loads(line) for line in text.splitlines()]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = replay(tmp_path / "1", CAPTURED), replay(tmp_path / "2", CAPTURED)
    assert first == second
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert set(digests(tmp_path / "1")) == {f"{topic}.ndjson" for topic in OUTPUTS}
    assert min(first.outputs[topic] for topic in OUTPUTS if topic != "bank.dead-letters") > 10


def test_the_captured_changes_give_the_reviewed_records() -> None:
    made = golden()
    kept = {path.name: path.read_text(encoding="utf-8") for path in GOLDEN.iterdir()}
    differing = sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))
    assert not differing, (
        "if it is meant to: python -m tests.support.bank.golden, and review the diff of tests/data/replay"
    )


def test_a_log_repeated_at_later_offsets_adds_nothing(tmp_path: Path) -> None:
    again = [{**line, "offset": line["offset"] + 1_000_000} for line in lines()]
    later = tmp_path / "later.ndjson"
    later.write_text("".join(json.dumps(line) + "\n" for line in again))
    replay(tmp_path / "once", CAPTURED)
    replay(tmp_path / "twice", CAPTURED, later)
    once, twice = digests(tmp_path / "once"), digests(tmp_path / "twice")
    once.pop("bank.dead-letters.ndjson")  # an unreadable record cannot be recognised as a replay
    twice.pop("bank.dead-letters.ndjson")
    assert once == twice


def test_a_key_that_is_not_json_is_written_as_base64(tmp_path: Path) -> None:
    keys = {'{"branch":"Zürich","number":1}': {"branch": "Zürich", "number": 1}, "\0": {"base64": "AA=="}}
    with Outputs(tmp_path, ["a"]) as outputs:
        outputs.write("a", [EmittedRecord("a", 0, key.encode(), b"{}", 0) for key in keys])
        outputs.write("a", [EmittedRecord("a", 0, b'{"a":"\xff"}', None, 0), EmittedRecord("a", 0, None, b"{}", 0)])
    found = [json.loads(line)["key"] for line in (tmp_path / "a.ndjson").read_text(encoding="utf-8").splitlines()]
    assert found == [*keys.values(), {"base64": "eyJhIjoi/yJ9"}, None]


def test_a_table_command_is_applied_before_later_records(tmp_path: Path) -> None:
    """As in the live worker, the version of a vanished row is closed when the end of the snapshot arrives, and names that record."""
    log = CdcLog("customers", "customer_id")
    for number in (1, 2):
        log.change("c", after={"customer_id": number, "name": "Ada"})
    lsn = log.lsn + 5
    log.change("r", after={"customer_id": 2, "name": "Ada"}, lsn=lsn, snapshot="first")
    log.change("r", after={"customer_id": 3, "name": "Ada"}, lsn=lsn, snapshot="last")
    log.change("c", after={"customer_id": 1, "name": "Ada"})
    records = [Recorded(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, ()) for r in log.records]
    with Outputs(tmp_path, OUTPUTS) as outputs:
        Replay(CATALOGUE, WorkerSettings()).run(records, outputs)
    found = [json.loads(line)["value"] for line in (tmp_path / "bank.scd2.customers.ndjson").read_bytes().splitlines()]
    closes = [(it["key"]["customer_id"], it["reason"], it["source"]["offset"]) for it in found if it["op"] == "close"]
    assert closes == [(1, "vanished", 3)]


def test_plain_gzip_and_zstd_are_read_alike(tmp_path: Path) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines()).encode()
    plain, packed = tmp_path / "a.ndjson", tmp_path / "a.ndjson.gz"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    found = []
    for number, path in enumerate((plain, packed, CAPTURED)):
        replay(tmp_path / str(number), path)
        found.append(digests(tmp_path / str(number)))
    assert found[0] == found[1] == found[2]


def test_an_invalid_line_is_named_and_earlier_output_stays(tmp_path: Path) -> None:
    replay(tmp_path / "out", CAPTURED)
    before = digests(tmp_path / "out")
    bad = tmp_path / "bad.ndjson"
    bad.write_text(json.dumps(lines()[0]) + "\nno json\n")
    with pytest.raises(RecordingError, match=r"bad\.ndjson, line 2"):
        replay(tmp_path / "out", bad)
    assert digests(tmp_path / "out") == before


def test_lines_longer_than_a_block_empty_lines_and_a_last_line_without_an_end_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "spaced.ndjson"
    spaced.write_text("\n \r\n" + "\n\n".join(json.dumps(line) for line in lines()))
    expected = list(read([CAPTURED], INPUTS, lambda _: None))
    assert list(read([spaced], INPUTS, lambda _: None)) == expected
    monkeypatch.setattr("app.proof.replay.recording.BLOCK", 100)
    assert list(read([spaced], INPUTS, lambda _: None)) == expected


def test_a_bad_line_far_down_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.proof.replay.recording.BLOCK", 5_000)
    bad = tmp_path / "bad.ndjson"
    good = [json.dumps(line) for line in lines()[:40]]
    bad.write_text("\n".join([*good, "", '{"topic": "bank.public.accounts"}', *good]))
    with pytest.raises(RecordingError, match=r"bad\.ndjson, line 42: .*partition"):
        list(read([bad], INPUTS, lambda _: None))


def test_headers_without_a_value_are_left_out(tmp_path: Path) -> None:
    line = next(it for it in lines() if it["topic"] in INPUTS)
    path = tmp_path / "a.ndjson"
    for headers, expected in (
        (None, ()),
        ([], ()),
        (["a", "1", "b", None, "ü", "ß"], (("a", b"1"), ("ü", "ß".encode()))),
    ):
        path.write_text(json.dumps({**line, "headers": headers}))
        (record,) = read([path], INPUTS, lambda _: None)
        assert record.headers == expected


def test_a_file_cut_short_is_an_error_and_not_a_short_replay(tmp_path: Path) -> None:
    cut = tmp_path / "cut.ndjson.gz"
    cut.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines()).encode())[:-2000])
    with pytest.raises(RecordingError, match="cut short"):
        replay(tmp_path / "out", cut)


def test_the_command_prints_what_it_did(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(CAPTURED), "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0
    assert result.stderr == "", "no progress bar where nobody looks"
    summary = json.loads(result.stdout)
    assert summary["records"] > 500
    first = json.loads((tmp_path / "bank.scd2.customers.ndjson").read_text().splitlines()[0])
    assert first["value"]["op"] == "open"
    assert first["key"] == first["value"]["key"]
