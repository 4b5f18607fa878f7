"""Tests the doctor's findings: each wrong fact gives one finding of the right kind and subject; correct facts give none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka import TopicPartition
from rich.console import Console

from app.config.settings import EngineSettings, KafkaSettings, SourceSettings
from app.domain.captured import CapturedTable, KeyType
from app.engine.continuity import TopicChange, expired, topic_recreated
from app.engine.partition_group import POSITIONS
from app.engine.positions import Position, decode, encode
from app.engine.topic_admin import TopicSpec, policy
from app.errors import ContinuityError
from app.operations import doctor
from app.operations.capture.connect import ConnectorStatus
from app.operations.doctor import capture, kafka, lake, source
from app.operations.doctor.finding_kinds import KINDS
from app.operations.doctor.findings import HEALTHY, UNHEALTHY, UNKNOWN, CheckResult, Finding, Report
from app.operations.doctor.page import page
from app.operations.doctor.run import checks
from app.operations.doctor.table import show
from app.operations.provision.connector import configuration
from app.operations.provision.migrations import shipped
from app.operations.provision.warehouse import MIGRATIONS, landing_tables
from app.topology.partition_groups import groups
from sinks.base import ChainKey, LakeObject, LedgerRow
from sinks.gaps import GapRecord
from sinks.relations import LEDGER
from tests.support.catalogue import CATALOGUE
from tests.support.paths import PROJECT

LOANS = CapturedTable("loans", {"branch": "text", "number": "integer"})
DECLARED = (*CATALOGUE.tables, LOANS)
OTHER_KEYS: tuple[Mapping[str, KeyType], ...] = (
    {}, {"branch": "text"}, {"number": "integer", "branch": "text"}, {"branch": "text", "number": "text"},
)  # fmt: skip
CAPTURED = tuple(table.name for table in DECLARED)
OLD, NEW = UUID(int=1), UUID(int=2)


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in findings]


# the source

TABLES = source.Tables(
    wal_level="logical",
    identities={**dict.fromkeys(CAPTURED, "f"), "heartbeat": "d"},
    keys={table.name: table.key for table in DECLARED},
    published=frozenset({*CAPTURED, "heartbeat"}),
    migrations={migration.version: migration.sha256 for migration in shipped()},
)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (TABLES, []),
        (replace(TABLES, wal_level="replica"), [("source-wal-level", "PostgreSQL")]),
        (
            replace(TABLES, identities=dict.fromkeys((*CAPTURED[:-1], "heartbeat"), "f")),
            [("table-missing", "loans")],
        ),
        (replace(TABLES, identities={**TABLES.identities, "loans": "d"}), [("replica-identity", "loans")]),
        *((replace(TABLES, keys={**TABLES.keys, "loans": key}), [("primary-key", "loans")]) for key in OTHER_KEYS),
        (replace(TABLES, keys={**TABLES.keys, "accounts": {"id": "text"}}), [("primary-key", "accounts")]),
        (replace(TABLES, identities={**TABLES.identities, "accounts": "d"}), [("replica-identity", "accounts")]),
        (replace(TABLES, published=None), [("publication-missing", "bank")]),
        (replace(TABLES, published=frozenset(CAPTURED)), [("publication-tables", "bank")]),
        (replace(TABLES, published=frozenset({*CAPTURED, "heartbeat", "x"})), [("publication-tables", "bank")]),
        (replace(TABLES, operations=frozenset({"insert", "update"})), [("publication-operations", "bank")]),
        (replace(TABLES, filtered=frozenset({"accounts"})), [("publication-filter", "accounts")]),
        (replace(TABLES, migrations=None), [("source-migrations", "migrations")]),
        (replace(TABLES, migrations=dict(TABLES.migrations or {}) | {99: "x"}), [("source-migrations", "migrations")]),
        (replace(TABLES, migrations=dict(TABLES.migrations or {}) | {1: "x"}), [("source-migrations", "migrations")]),
    ],
)
def test_tables_and_publication(facts: source.Tables, found: list[tuple[str, str]]) -> None:
    assert codes(source.judge_tables(facts, DECLARED, shipped())) == found


def test_roles_have_the_privileges_that_they_need_and_no_others() -> None:
    settings = SourceSettings()
    names = (settings.user, settings.replication_user, settings.reader_user)
    good = source.Roles(dict.fromkeys(names, (True, True)), source.needed(settings, CAPTURED))
    assert source.judge_roles(good, settings, CAPTURED) == []
    lacking = replace(good, held=good.held - {(settings.reader_user, "accounts", "SELECT")})
    assert codes(source.judge_roles(lacking, settings, CAPTURED)) == [("privilege-missing", settings.reader_user)]
    more = replace(
        good, held=good.held | {(settings.reader_user, "accounts", "TRUNCATE"), ("public", "customers", "SELECT")}
    )
    assert codes(source.judge_roles(more, settings, CAPTURED)) == [
        ("privilege-excess", settings.reader_user),
        ("privilege-excess", "public"),
    ]
    gone = replace(good, logins={settings.user: (True, False), settings.replication_user: (True, False)})
    assert codes(source.judge_roles(gone, settings, CAPTURED)) == [
        ("role-missing", settings.replication_user),
        ("role-missing", settings.reader_user),
    ]


SLOT = source.Slot(True, True, "reserved", 1000, 10, None)


@pytest.mark.parametrize(
    ("slot", "age", "found"),
    [
        (SLOT, 1.0, []),
        (None, 1.0, ["slot-missing"]),
        (replace(SLOT, right_kind=False), 1.0, ["slot-kind"]),
        (replace(SLOT, wal_status="lost", active=False), 90.0, ["slot-lost", "heartbeat-still"]),
        (replace(SLOT, active=False), 1.0, ["slot-inactive"]),
        (replace(SLOT, wal_status="unreserved"), 1.0, ["slot-unreserved"]),
        (replace(SLOT, wal_status="extended", safe_bytes=5), 1.0, ["slot-behind"]),
        (replace(SLOT, lag_bytes=1 << 40), 1.0, ["slot-behind"]),
        (SLOT, None, ["heartbeat-still"]),
    ],
)
def test_slot_and_heartbeat(slot: source.Slot | None, age: float | None, found: list[str]) -> None:
    assert [one.code for one in source.judge_streaming(source.Streaming(slot, age), "bank")] == found


# capture

CONFIGURED = configuration(CATALOGUE)
RUNNING = capture.Connector({**CONFIGURED, "name": "bank"}, ConnectorStatus("RUNNING"), None)


def test_connector_settings_are_compared_by_name_and_never_shown() -> None:
    assert capture.judge_connector(RUNNING, "bank", CONFIGURED) == []
    assert [one.code for one in capture.judge_connector(replace(RUNNING, stored=None), "bank", CONFIGURED)] == [
        "connector-missing"
    ]
    assert RUNNING.stored is not None
    changed = replace(RUNNING, stored={**RUNNING.stored, "database.password": "hunter2", "poll.interval.ms": "1"})
    found = capture.judge_connector(changed, "bank", CONFIGURED)
    assert [one.code for one in found] == ["connector-secret", "connector-settings"]
    assert "database.password, poll.interval.ms" in found[1].message
    assert "hunter2" not in str(found)
    failed = replace(
        RUNNING, status=ConnectorStatus("FAILED", "java.lang.X: a\n\tat b\nCaused by: y.Z: no pg_hba entry\n\tat c")
    )
    assert [one.message for one in capture.judge_connector(failed, "bank", CONFIGURED)] == [
        "connector bank is FAILED: y.Z: no pg_hba entry"
    ]


def test_a_slot_ahead_of_the_captured_changes_is_a_gap() -> None:
    assert capture.judge_position(SLOT, 1000, "bank") == []
    assert capture.judge_position(SLOT, None, "bank") == []
    [found] = capture.judge_position(replace(SLOT, confirmed_lsn=0x1B3EA08), 0x1B3EA00, "bank")
    assert "0/1B3EA00..0/1B3EA08 (8 bytes of log)" in found.message


def beat(op: str, lsn: int | None) -> capture.HeartbeatRecord:
    return capture.HeartbeatRecord(op, capture._Source(lsn))


def test_a_snapshot_behind_changes_from_the_log_is_a_break_and_the_first_snapshot_is_none() -> None:
    """The records are as Debezium 3.6 wrote them after its slot was dropped and created again by hand."""
    beats = [beat("r", 28566912), beat("u", 28567568), beat("u", 28568408), beat("r", 28857488), beat("u", 28857696)]
    found = capture.capture_gaps(beats)
    assert found == [capture.CaptureGap(28568408, 28857488)]
    assert capture.capture_gaps([beat("r", 1), beat("r", 5), beat("u", 6), beat("u", None), beat("u", 7)]) == []
    [finding] = capture.judge_history(found, [], "bank")
    assert "0/1B3EB58..0/1B85490" in finding.advice
    assert capture.judge_history(found, ["0/1B3EB58..0/1B85490"], "bank") == []


# Kafka

ENGINE, KAFKA = EngineSettings(), KafkaSettings()
SPEC = TopicSpec("t", 4, policy(cleanup="compact", retention_ms=-1, engine=ENGINE, kafka=KAFKA))
DELETING = TopicSpec("t", 4, policy(cleanup="delete", retention_ms=1000, engine=ENGINE, kafka=KAFKA))
TOPIC = kafka.TopicFacts(4, 1, 0, {**SPEC.config})


@pytest.mark.parametrize(
    ("spec", "topic", "found"),
    [
        (SPEC, TOPIC, []),
        (SPEC, None, ["topic-missing"]),
        (SPEC, replace(TOPIC, partitions=5), ["topic-partitions"]),
        (SPEC, replace(TOPIC, replicas=0), ["topic-replicas"]),
        (SPEC, replace(TOPIC, offline=1), ["topic-offline"]),
        (SPEC, replace(TOPIC, config={**SPEC.config, "cleanup.policy": "delete"}), ["topic-policy"]),
        (SPEC, replace(TOPIC, config={**SPEC.config, "max.message.bytes": "1"}), ["topic-size"]),
        (SPEC, replace(TOPIC, config={**SPEC.config, "min.insync.replicas": "0"}), ["topic-replicas"]),
        (SPEC, replace(TOPIC, config={**SPEC.config, "retention.ms": "5"}), []),
        (DELETING, replace(TOPIC, config={**DELETING.config}), []),
        (DELETING, replace(TOPIC, config={**DELETING.config, "retention.ms": "999"}), ["topic-policy"]),
        (DELETING, replace(TOPIC, config={**DELETING.config, "retention.ms": "-1"}), []),
        (DELETING, replace(TOPIC, config={**DELETING.config, "retention.ms": "2000"}), []),
    ],
)
def test_topics(spec: TopicSpec, topic: kafka.TopicFacts | None, found: list[str]) -> None:
    assert [one.code for one in kafka.judge_topics([spec], {} if topic is None else {"t": topic}, 1)] == found


BY_ACCOUNT = groups(CATALOGUE, KAFKA)[0]
ACCOUNTS = BY_ACCOUNT.topics[0]
LOG = BY_ACCOUNT.changelog("accounts")
DONE = kafka.GroupPositions(BY_ACCOUNT, 2, {ACCOUNTS: Position(10, OLD)}, {"accounts": OLD}, {ACCOUNTS: 10})


@pytest.mark.parametrize(
    ("processed", "topic_id", "log_id", "ends", "found"),
    [
        (DONE, OLD, OLD, (0, 10), []),
        (DONE, OLD, OLD, (10, 90), []),
        (DONE, NEW, OLD, (0, 90), ["topic-recreated"]),
        (DONE, OLD, OLD, (11, 90), ["records-expired"]),
        (DONE, OLD, OLD, (0, 9), ["records-lost"]),
        (DONE, OLD, NEW, (0, 10), ["changelog-recreated"]),
        (replace(DONE, positions={}, changelogs={}), OLD, NEW, (0, 10), ["state-gone"]),
        (replace(DONE, positions={}, changelogs={}), OLD, NEW, (0, 9), []),
        (replace(DONE, positions={}, changelogs={}, committed={}), OLD, NEW, (0, 10), []),
    ],
)
def test_positions(
    processed: kafka.GroupPositions, topic_id: UUID, log_id: UUID, ends: tuple[int, int], found: list[str]
) -> None:
    findings = kafka.judge_positions(
        [processed], {ACCOUNTS: topic_id, LOG: log_id}, {(ACCOUNTS, 2): kafka.LogBounds(*ends)}
    )
    assert [one.code for one in findings] == found


def test_expired_records_are_named_by_their_offsets() -> None:
    (found,) = kafka.judge_positions([DONE], {ACCOUNTS: OLD, LOG: OLD}, {(ACCOUNTS, 2): kafka.LogBounds(11, 90)})
    assert "offsets 10 to 10 are lost" in found.message


def test_groups_without_members_or_far_behind() -> None:
    assert kafka.judge_group("lake", 1, 5) == []
    assert codes(kafka.judge_group("lake", 1, 5, ["bank.public.loans"])) == [("topic-unread", "bank.public.loans")]
    assert codes(kafka.judge_group("lake", 0, 5, ["bank.public.loans"])) == [("worker-absent", "lake")]
    assert [one.code for one in kafka.judge_group("lake", 0, 1 << 30)] == ["worker-absent", "worker-behind"]


# lake and warehouse


def lake_object(last: int, sha256: str = "s") -> LakeObject:
    return LakeObject(f"o{last}", "t", 0, 0, last, 1, 1, sha256, -1, "")


CHAIN = lake.ChainState(ChainKey("t", str(OLD), 0), lake_object(9))


def gap(topic_id: UUID, first: int, last: int | None, resumes: UUID, at: int) -> GapRecord:
    return GapRecord(
        worker="lake", topic="t", topic_id=str(topic_id), partition=0, first=first, last=last, resumes_topic_id=str(resumes),
        resumes_at=at, reason="r", accepted_by="b", accepted_at="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("chained", "topic_id", "ends", "known", "found"),
    [
        (CHAIN, OLD, (0, 10), [], []),
        (CHAIN, OLD, (10, 99), [], []),
        (lake.ChainState(CHAIN.key, None), OLD, (10, 99), [], []),
        (CHAIN, OLD, (11, 99), [], ["lake-expired"]),
        (CHAIN, OLD, (11, 99), [gap(OLD, 10, 10, OLD, 11)], []),
        (CHAIN, OLD, (20, 99), [gap(OLD, 10, 10, OLD, 11)], ["lake-expired"]),
        (CHAIN, OLD, (20, 99), [gap(OLD, 10, 10, OLD, 11), gap(OLD, 11, 19, OLD, 20)], []),
        (CHAIN, OLD, (0, 9), [], ["lake-ahead"]),
        (CHAIN, NEW, (0, 99), [], ["lake-recreated"]),
        (CHAIN, NEW, (0, 99), [gap(OLD, 10, None, NEW, 0)], []),
        (replace(CHAIN, broken="offsets 3 to 4 are missing"), OLD, (0, 99), [], ["chain-broken"]),
    ],
)
def test_chains(
    chained: lake.ChainState, topic_id: UUID, ends: tuple[int, int], known: list[GapRecord], found: list[str]
) -> None:
    findings = lake.judge_lake([chained], {"t": topic_id}, {("t", 0): kafka.LogBounds(*ends)}, known)
    assert [one.code for one in findings] == found


@pytest.mark.parametrize(
    ("row", "newest", "kept", "found"),
    [
        (LedgerRow(), None, None, []),
        (LedgerRow(9, "o9", "s"), lake_object(9), lake_object(9), []),
        (LedgerRow(9, "o9", "s"), lake_object(99), lake_object(9), []),
        (LedgerRow(9, "o9", "s"), lake_object(5), None, ["ledger-ahead"]),
        (LedgerRow(9, "o9", "s"), None, None, ["ledger-ahead"]),
        (LedgerRow(9, "o9", "s"), lake_object(99), None, ["ledger-object"]),
        (LedgerRow(9, "o9", "s"), lake_object(99), lake_object(9, "other"), ["ledger-object"]),
    ],
)
def test_ledger(row: LedgerRow, newest: LakeObject | None, kept: LakeObject | None, found: list[str]) -> None:
    findings = lake.judge_ledger({CHAIN.key: row}, [replace(CHAIN, newest=newest)], {"o9": kept})
    assert [one.code for one in findings] == found


def test_tables_of_the_warehouse() -> None:
    wanted = [*landing_tables(CATALOGUE), LEDGER, lake.VERSIONS]
    assert lake.judge_tables(wanted, len(MIGRATIONS), CATALOGUE) == []
    assert [one.subject for one in lake.judge_tables(wanted[1:], 0, CATALOGUE)] == [wanted[0], lake.VERSIONS]


# the report


def outcome(*found: str, could_not: str = "") -> CheckResult:
    return CheckResult("check", 0.1, tuple(Finding(code, "s", "m [red]") for code in found), could_not)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([outcome()], HEALTHY),
        ([outcome("slot-behind")], HEALTHY),
        ([outcome("slot-behind", "slot-lost")], UNHEALTHY),
        ([outcome(could_not="down")], UNKNOWN),
        ([outcome(could_not="down"), outcome("slot-lost")], UNHEALTHY),
    ],
)
def test_exit_codes(outcomes: list[CheckResult], code: int) -> None:
    report = Report(tuple(outcomes))
    assert report.exit_code == code
    assert report.plain()["healthy"] is (code == HEALTHY)
    console = Console(record=True, width=100)
    show(report, console)
    shown = console.export_text()
    assert all(finding.code in shown and "m [red]" in shown for finding in report.findings)


def test_errors_come_before_warnings() -> None:
    assert [one.code for one in Report((outcome("slot-behind", "slot-lost"),)).findings] == ["slot-lost", "slot-behind"]


async def test_a_check_that_fails_is_reported_as_not_executed() -> None:
    from app.operations.doctor.run import run_check  # noqa: PLC0415

    async def fails() -> list[Finding]:
        raise OSError("no route")

    assert (await run_check("x", fails)).could_not == "OSError: no route"


def test_the_page_is_generated_from_the_kinds_of_findings() -> None:
    assert (PROJECT / "docs" / "DOCTOR.md").read_text(encoding="utf-8") == page(), (
        "python -m app.operations.doctor.page > docs/DOCTOR.md"
    )
    assert all(f"\n### {code}\n" in page() for code in KINDS)


def test_every_kind_can_be_found() -> None:
    """Each kind of finding must occur in the code of a check."""
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(doctor.__file__).parent.glob("*.py")
        if path.name != "finding_kinds.py"
    )
    assert [code for code in KINDS if f'"{code}"' not in text] == []


def test_checks_need_no_part_to_be_listed() -> None:
    assert len(checks({})) == 14


# messages of the engine


def test_a_position_names_its_topic() -> None:
    assert decode(encode(Position(7, NEW))) == Position(7, NEW)
    with pytest.raises(ContinuityError, match="8 bytes"):
        decode((7).to_bytes(8, "big"))


def test_messages_of_the_engine_name_exact_ranges() -> None:
    assert "offsets 5 to 8" in expired(TopicPartition("t", 0), 5, 9)
    told = topic_recreated(TopicChange("t", OLD, NEW), {0: 5, 1: 1}, {0: 3, 1: 0})
    assert "0 through offset 4, 1 through offset 0" in told
    assert "Unprocessed partitions of the new topic: 0 through offset 2." in told
    assert POSITIONS not in told
