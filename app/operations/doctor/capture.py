"""Checks the connector, the position of its slot, and gaps in capture that the heartbeats of the last day show."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import TopicPartition

from app.config.settings import ConnectSettings, KafkaSettings, SourceSettings
from app.config.topics import HEARTBEAT, Catalogue
from app.engine.committed_reader import read_all_committed
from app.operations.capture.connect import ConnectClient, ConnectorStatus
from app.operations.doctor import source
from app.operations.doctor.findings import Finding
from app.operations.provision.connector import configuration, slot_name
from app.postgres import lsn_text

PASSWORD: Final = "database.password"  # noqa: S105 - the name of a setting
READ_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Connector:
    """The connector in Connect. `stored` is None if Connect does not have it. `offset` is the LSN of the last captured change."""

    stored: Mapping[str, str] | None
    status: ConnectorStatus
    offset: int | None


class _Source(msgspec.Struct):
    lsn: int | None = None
    ts_ms: int | None = None


class HeartbeatRecord(msgspec.Struct):
    """One change of the heartbeat row, or its row in a snapshot (`op` r)."""

    op: str
    source: _Source


@dataclass(frozen=True, slots=True)
class CaptureGap:
    """A range of LSNs whose changes were not captured: `last` is the last captured change, `resumed` the start of the next snapshot."""

    last: int
    resumed: int

    @property
    def name(self) -> str:
        """The range as `bankstream gaps accept capture --range` expects it."""
        return f"{lsn_text(self.last)}..{lsn_text(self.resumed)}"


def judge_connector(found: Connector, name: str, configured: Mapping[str, str]) -> list[Finding]:
    """Checks settings and state. `configured` is the configuration that provisioning writes. Findings omit values: some may be secret."""
    if found.stored is None:
        return [Finding("connector-missing", name, f"Kafka Connect has no connector {name}")]
    findings: list[Finding] = []
    wanted = {**configured, "name": name}
    differing = sorted(key for key in wanted.keys() | found.stored.keys() if wanted.get(key) != found.stored.get(key))
    if not found.stored.get(PASSWORD, "").startswith("${"):
        findings.append(Finding("connector-secret", name, f"{PASSWORD} is not a reference (${{env:…}})"))
    if differing:
        findings.append(Finding("connector-settings", name, f"set otherwise: {', '.join(differing)}"))
    if found.status.state != "RUNNING":
        cause = f": {found.status.cause}" if found.status.trace else ""
        findings.append(
            Finding(
                "connector-state",
                name,
                f"connector {name} is {found.status.state}{cause}",
            )
        )
    return findings


def judge_position(slot: source.Slot | None, offset: int | None, name: str) -> list[Finding]:
    """Checks that the slot still has the changes after the last captured one."""
    if slot is None or offset is None or slot.confirmed_lsn <= offset:
        return []
    lost = CaptureGap(offset, slot.confirmed_lsn)
    return [
        Finding(
            "slot-ahead", name, f"captured through {lsn_text(offset)}, but slot {name} begins after {lsn_text(slot.confirmed_lsn)}: "
            f"{lost.name} ({lost.resumed - lost.last:,} bytes of log) was not captured",
        )
    ]  # fmt: skip


def capture_gaps(beats: Iterable[HeartbeatRecord]) -> list[CaptureGap]:
    """Returns the gaps. A heartbeat row from a snapshot that follows one from the log marks a gap: capture started again there."""
    found: list[CaptureGap] = []
    before: HeartbeatRecord | None = None
    for beat in beats:
        if beat.source.lsn is None:
            continue
        if beat.op == "r" and before is not None and before.op != "r" and before.source.lsn is not None:
            found.append(CaptureGap(before.source.lsn, beat.source.lsn))
        before = beat
    return found


def judge_history(found: Iterable[CaptureGap], accepted: Iterable[str], name: str) -> list[Finding]:
    """Reports the gaps that have not been accepted."""
    known = frozenset(accepted)
    return [
        Finding(
            "capture-gap", one.name,
            f"changes between {lsn_text(one.last)} and {lsn_text(one.resumed)} ({one.resumed - one.last:,} bytes of log) were not "
            "captured; a snapshot has read the rows as they were afterwards",
            f"bankstream gaps accept capture {name} --range {one.name} --reason '…'; then bankstream reconcile, and repair what differs",
        )
        for one in found
        if one.name not in known
    ]  # fmt: skip


def check_connector(connect: ConnectSettings, catalogue: Catalogue) -> list[Finding]:
    """Checks the connector's settings and state."""
    with ConnectClient(connect) as client:
        stored = client.configuration()
        status = client.status() if stored is not None else ConnectorStatus("MISSING")
    return judge_connector(Connector(stored, status, None), connect.connector, configuration(catalogue))


def check_position(connect: ConnectSettings, settings: SourceSettings) -> list[Finding]:
    """Checks the slot against the captured LSN. The slot is read first, because the captured LSN only grows."""
    name = slot_name()
    with source.reading(settings) as session:
        slot = source.streaming(session, name).slot
    with ConnectClient(connect) as client:
        return judge_position(slot, client.captured_lsn(), name)


async def check_history(kafka: KafkaSettings, accepted: Iterable[str]) -> list[Finding]:
    """Checks every heartbeat that Kafka has."""
    return judge_history(await read_breaks(kafka), accepted, slot_name())


async def read_breaks(kafka: KafkaSettings) -> list[CaptureGap]:
    """Returns the gaps that the heartbeats show. Kafka keeps heartbeats for one day."""
    return capture_gaps(await _beats(kafka))


async def _beats(kafka: KafkaSettings) -> list[HeartbeatRecord]:
    decoder = msgspec.json.Decoder(HeartbeatRecord)
    async with asyncio.timeout(READ_TIMEOUT_S):
        return [
            beat
            async for record in read_all_committed(kafka, [TopicPartition(HEARTBEAT.name, 0)])
            if (beat := _decode(decoder, record.value)) is not None
        ]


def _decode(decoder: "msgspec.json.Decoder[HeartbeatRecord]", value: bytes | None) -> HeartbeatRecord | None:
    """Returns None for a tombstone and for a record that is not a row change."""
    try:
        return None if value is None else decoder.decode(value)
    except msgspec.MsgspecError:
        return None
