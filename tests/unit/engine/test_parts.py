"""Tests the small parts of the engine: partitioner, cache, state directories, exit codes, dead letters, settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError, ProducerFenced

from app.config.settings import EngineSettings, KafkaSettings, SnowflakeSettings, WorkerSettings, load
from app.engine import exits, instance
from app.engine.dead_letters import dead_letter, decode_dead_letter, encode_dead_letter
from app.engine.keys import partition_for
from app.engine.lru import LruDict
from app.engine.partition_group import PartitionGroup
from app.engine.restore import Changelog
from app.engine.table import Table
from app.engine.transactional_producer import TransactionFailedError
from app.errors import ContinuityError, FencedError, PoisonRecordError, SettingsError
from tests.support.bank.cdc import Record


@pytest.mark.parametrize(
    ("key", "murmur2"),
    # from Kafka's own UtilsTest.testMurmur2
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_keys_are_partitioned_as_by_javas_producer(key: bytes, murmur2: int) -> None:
    assert partition_for(key, 1_000_003) == (murmur2 & 0x7FFFFFFF) % 1_000_003


@pytest.mark.parametrize(("count", "partition"), [(1, 0), (2, 1), (3, 0), (4, 3)])
def test_a_key_is_partitioned_by_its_hash_for_any_number_of_partitions(count: int, partition: int) -> None:
    assert partition_for(b"abc", count) == partition


def test_a_record_without_a_key_has_a_fixed_partition() -> None:
    assert {partition_for(None, count) for count in (1, 4, 7)} == {0}


def test_the_cache_evicts_the_least_recently_used_entry() -> None:
    cache: LruDict[str, int] = LruDict(2)
    cache["a"], cache["b"] = 1, 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert cache.get("b") is None
    assert cache.get("a") == 1
    assert len(cache) == 2


def test_two_workers_with_one_state_directory_get_one_each_and_a_dead_ones_is_free_again(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.engine.instance import claim; "
        "mine = claim(Path(sys.argv[1])); print(mine.directory.name, mine.group_instance_id, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    first, name = start()
    second, other = start()
    first.kill()
    first.wait(10)
    third, again = start()
    for process in (second, third):
        process.kill()
        process.wait(10)
    for process in (first, second, third):
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
    assert name.split()[0] == "0"
    assert other.split()[0] == "1"
    assert name != other
    assert again == name, "whoever takes the state over has its name in the group too"


def test_a_copy_of_a_state_directory_on_another_machine_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    monkeypatch.setattr(instance, "_held", held)
    first = instance.claim(tmp_path).group_instance_id
    os.close(held.pop())
    assert instance.claim(tmp_path).group_instance_id == first
    os.close(held.pop())
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert instance.claim(tmp_path).group_instance_id.startswith("elsewhere-")
    os.close(held.pop())


@pytest.mark.parametrize(
    ("kept", "stays", "why"),
    [
        ("machine-1-ab12\n", True, "this machine's"),
        ("machine-2-ab12", False, "another machine's"),
        ("machine-1-", False, "cut short"),
        ("machine-1", False, "cut shorter"),
        ("machine", False, "as if this machine's name had no dash"),
        ("", False, "empty"),
        (None, False, "not there"),
    ],
)
def test_a_name_is_kept_if_it_is_complete_and_of_this_machine(
    kept: str | None, stays: bool, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    monkeypatch.setattr(instance, "_held", held)
    monkeypatch.setattr("platform.node", lambda: "machine-1")
    place = tmp_path / "not" / "there"
    if kept is not None:
        place.mkdir(parents=True)
        (place / "0.id").write_text(kept, encoding="utf-8")
    mine = instance.claim(place)
    os.close(held.pop())
    assert mine.directory == place / "0"
    assert (mine.group_instance_id == (kept or "").strip()) is stays, why
    assert mine.group_instance_id.startswith("machine-1-"), why
    assert (place / "0.id").read_text(encoding="utf-8").strip() == mine.group_instance_id, why
    assert not list(place.glob("*.new"))
    assert (place / "0.lock").stat().st_mode & 0o177 == 0, "it is nobody else's"


def test_there_are_only_as_many_state_directories_as_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    monkeypatch.setattr(instance, "_held", held)
    monkeypatch.setattr(instance, "MAX_INSTANCES", 3)
    assert [instance.claim(tmp_path).directory.name for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(SettingsError, match=r"^3 workers already use .*BANKSTREAM_ENGINE_STATE_DIR to another"):
        instance.claim(tmp_path)
    assert len(held) == 3
    for descriptor in held:
        os.close(descriptor)


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SettingsError, match=r"/file/state cannot be used: Not a directory\. Set BANKSTREAM_ENGINE_STATE_DIR"
    ):
        instance.claim(tmp_path / "file" / "state")


def test_a_groups_changelogs_have_its_name_and_the_retention_of_its_tables() -> None:
    tables = (Table("seen", bytes, bytes, bytes, 1_000), Table("balances", bytes, bytes, bytes))
    group = PartitionGroup("app", "by-key", ("in",), tables, 4, lambda _: 4, "letters")
    assert group.changelogs == (
        Changelog("positions", "app-by-key-positions-changelog", None),
        Changelog("seen", "app-by-key-seen-changelog", 1_000),
        Changelog("balances", "app-by-key-balances-changelog", None),
    )
    assert group.transactional_id(3) == "app.by-key.3"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FencedError("x"), exits.FENCED),
        (ContinuityError("x"), exits.CONTINUITY),
        (TransactionFailedError("x"), exits.RETRY),
        (KafkaConnectionError("x"), exits.RETRY),
        (ProducerFenced("x"), exits.FENCED),
        (ConnectionResetError("x"), exits.RETRY),
        (ZeroDivisionError("x"), exits.DEFECT),
    ],
)
def test_the_exit_code_says_what_kind_of_error_ended_the_worker(error: BaseException, code: int) -> None:
    assert exits.exit_code(error) == code


def test_a_dead_letter_keeps_every_byte() -> None:
    key, value = b"\xff\x00", bytes(range(256))
    record = Record("t", value, key, 3, 42, headers=(("h", b"\xff\xfe"), ("none", b"")))
    letter = dead_letter(record, PoisonRecordError("what, where, what to do", reason="bad-json"), 1_700_000_000_123_456)
    decoded = decode_dead_letter(encode_dead_letter(letter))
    assert (decoded.key, decoded.value, decoded.headers) == (key, value, record.headers)
    assert decoded == letter


def test_the_bytes_of_a_dead_letter_do_not_change_between_versions() -> None:
    record = Record("t", b"\x00\xff\xfe?", None, 3, 42, headers=(("h", b"\xff\xfe"),))
    error = PoisonRecordError('what, wh\xe9re, "what" to do', reason="bad-json")
    assert (
        encode_dead_letter(dead_letter(record, error, 1_700_000_000_000_000))
        == (
            '{"topic":"t","partition":3,"offset":42,"key":null,"value":"AP/+Pw==","headers":[["h","//4="]],"reason":"bad-json",'
            '"stage":"decode","error":"PoisonRecordError","message":"what, wh\xe9re, \\"what\\" to do",'
            '"failed_at":"2023-11-14T22:13:20.000000Z"}'
        ).encode()
    )


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    load.cache_clear()
    monkeypatch.setenv("BANKSTREAM_TOPIC_PARTITIONS", "12")
    monkeypatch.setenv("BANKSTREAM_UNTRACKED_COLUMNS", " balance, updated_at ,seen_at")
    assert load(KafkaSettings).partitions == 12
    assert load(WorkerSettings).untracked_columns == ("balance", "updated_at", "seen_at")
    load.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BANKSTREAM_TOPIC_PARTITIONS", "0"),
        ("BANKSTREAM_KAFKA_SECURITY_PROTOCOL", "TELEPATHY"),
        ("BANKSTREAM_KAFKA_REPLICATION_FACTOR", "x"),
    ],
)
def test_a_bad_setting_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    load.cache_clear()
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load(KafkaSettings)
    load.cache_clear()


def test_no_setting_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    load.cache_clear()
    monkeypatch.setenv("BANKSTREAM_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("BANKSTREAM_SNOWFLAKE_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load(KafkaSettings)) + repr(load(SnowflakeSettings)) + repr(load(EngineSettings))
    load.cache_clear()
