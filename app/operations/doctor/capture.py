"""The connector, its slot, and what the heartbeats tell of capture since yesterday."""

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
    """What Connect says. `stored` None: it does not have the connector. `offset` is the LSN captured last."""

    stored: Mapping[str, str] | None
    status: ConnectorStatus
    offset: int | None


class _Source(msgspec.Struct):
    lsn: int | None = None
    ts_ms: int | None = None


class HeartbeatRecord(msgspec.Struct):
    """One change of the heartbeat row, or one reading of it by a snapshot (`op` r)."""

    op: str
    source: _Source


@dataclass(frozen=True, slots=True)
class CaptureGap:
    """Changes between the two were not captured: `last` was the last one before, `resumed` where a snapshot began anew."""

    last: int
    resumed: int

    @property
    def name(self) -> str:
        """The range as people write it."""
        return f"{lsn_text(self.last)}..{lsn_text(self.resumed)}"


def judge_connector(found: Connector, name: str, configured: Mapping[str, str]) -> list[Finding]:
    """Settings and state; `configured` is what provisioning puts. Values are not shown: some might be secret."""
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
    """Whether the slot still has what follows the change that was captured last."""
    if slot is None or offset is None or slot.confirmed_lsn <= offset:
        return []
    lost = CaptureGap(offset, slot.confirmed_lsn)
    return [
        Finding(
            "slot-ahead", name, f"captured through {lsn_text(offset)}, but slot {name} begins behind {lsn_text(slot.confirmed_lsn)}: "
            f"{lost.name} ({lost.resumed - lost.last:,} bytes of log) was not captured",
        )
    ]  # fmt: skip


def capture_gaps(beats: Iterable[HeartbeatRecord]) -> list[CaptureGap]:
    """A heartbeat row read by a snapshot after one that came from the log: capture began anew there."""
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
    """Breaks that nobody has accepted."""
    known = frozenset(accepted)
    return [
        Finding(
            "capture-gap", one.name,
            f"changes between {lsn_text(one.last)} and {lsn_text(one.resumed)} ({one.resumed - one.last:,} bytes of log) were not "
            "captured; a snapshot has read what the rows had become",
            f"bankstream gaps accept capture {name} --range {one.name} --reason '…'; then bankstream reconcile, and mend what differs",
        )
        for one in found
        if one.name not in known
    ]  # fmt: skip


def check_connector(connect: ConnectSettings, catalogue: Catalogue) -> list[Finding]:
    """Settings and state."""
    with ConnectClient(connect) as client:
        stored = client.configuration()
        status = client.status() if stored is not None else ConnectorStatus("MISSING")
    return judge_connector(Connector(stored, status, None), connect.connector, configuration(catalogue))


def check_position(connect: ConnectSettings, settings: SourceSettings) -> list[Finding]:
    """The slot first: what was captured by then is not less later."""
    name = slot_name()
    with source.reading(settings) as session:
        slot = source.streaming(session, name).slot
    with ConnectClient(connect) as client:
        return judge_position(slot, client.captured_lsn(), name)


async def check_history(kafka: KafkaSettings, accepted: Iterable[str]) -> list[Finding]:
    """Every heartbeat that Kafka has."""
    return judge_history(await read_breaks(kafka), accepted, slot_name())


async def read_breaks(kafka: KafkaSettings) -> list[CaptureGap]:
    """Those that the heartbeats show: Kafka keeps them for a day."""
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
    """None for a tombstone, and for what is no change of a row."""
    try:
        return None if value is None else decoder.decode(value)
    except msgspec.MsgspecError:
        return None
