"""Checks the lake's side of a trace: the object that contains a record, its links in the chain, and the record's line."""

from dataclasses import dataclass
from typing import Final

import msgspec
import zstandard

from app.errors import ContinuityError
from app.proof.trace.record_position import RecordPosition
from app.proof.trace.report import Check, differs, judged, noted
from sinks import chain, lines
from sinks.base import ChainKey, LakeObject, LedgerRow, ObjectStore, SinkRefusedError
from sinks.segment import digest
from sinks.segment import lines as split

SHORT: Final = 12


@dataclass(frozen=True, slots=True)
class ArchivedRecord:
    """A record in the lake. `raw` is its line without the newline; `value` and `key` are its bytes in Kafka."""

    chain: ChainKey
    object: LakeObject
    checks: tuple[Check, ...]
    number: int = 0
    of: int = 0
    raw: bytes | None = None
    line: lines.Line | None = None
    key: bytes | None = None
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Content:
    rows: dict[int, tuple[int, bytes]]
    """The line number and the bytes by offset."""
    checks: tuple[Check, ...]


class LakeReader:
    """Reads each object once. SinkUnavailableError if the store does not answer."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._contents: dict[str, _Content] = {}

    async def chains(self, position: RecordPosition) -> list[ChainKey]:
        """Returns the chains of the record's partition: one for each id of its topic."""
        return [key for key in await chain.chains(self._store, position.topic) if key.partition == position.partition]

    async def find(self, key: ChainKey, offset: int) -> ArchivedRecord | None:
        """Returns the record in the object that contains this offset; None if no object does. Its checks include errors of the object."""
        try:
            found = await chain.find_containing(self._store, key, offset)
        except ContinuityError as error:
            name = chain.name(key, offset)
            nothing = LakeObject(name, key.topic, key.partition, offset, offset, 0, 0, "", offset - 1, "")
            return ArchivedRecord(key, nothing, (differs(str(error)),))
        if found is None:
            return None
        content = await self._content(found)
        checks = [*content.checks, *await self._links(key, found)]
        at = content.rows.get(offset)
        if at is None:
            if content.rows:
                checks.append(differs(f"no line of the object has offset {offset}"))
            return ArchivedRecord(key, found, tuple(checks))
        number, raw = at
        line = lines.read(raw)
        record_key, value = line.key_bytes(), line.value_bytes()
        if line.large_object is not None:
            more, record_key, value = await self._large(line)
            checks.append(more)
        return ArchivedRecord(
            key, found, tuple(checks), number, len(content.rows), raw.rstrip(b"\n"), line, record_key, value
        )  # fmt: skip

    async def ledger(self, key: ChainKey, row: LedgerRow) -> list[Check]:
        """Checks that the lake has the last object of a ledger row, with the same hash and offset."""
        if not row.last_object:
            return [differs("the ledger has loaded nothing of this chain")]
        try:
            same_chain = chain.parse(row.last_object)[0] == key
        except ValueError:
            same_chain = False
        stat = await self._store.stat(row.last_object) if same_chain else None
        if stat is None:
            return [differs(f"the ledger ends with {row.last_object}, which this chain does not have")]
        try:
            last = chain.parse_metadata(row.last_object, stat)
        except ContinuityError as error:
            return [differs(str(error))]
        return [
            judged(
                (last.sha256, last.last_offset) == (row.last_sha256, row.last_offset),
                f"ends with the object after {last.previous_last_offset}, through offset {row.last_offset}, sha256 {last.sha256[:SHORT]}…",
                f"says offset {row.last_offset} and sha256 {row.last_sha256[:SHORT]}… of {row.last_object}, which has offset "
                f"{last.last_offset} and sha256 {last.sha256[:SHORT]}…",
            )
        ]

    async def _content(self, found: LakeObject) -> _Content:
        if found.object not in self._contents:
            self._contents[found.object] = await self._read(found)
        return self._contents[found.object]

    async def _read(self, found: LakeObject) -> _Content:
        try:
            body = await self._store.get(found.object)
        except SinkRefusedError as error:
            return _Content({}, (differs(str(error)),))
        actual = digest(body)
        checks = [
            judged(
                actual == found.sha256,
                f"its {len(body):,} bytes hash to {found.sha256[:SHORT]}…, as it was written",
                f"its bytes hash to {actual[:SHORT]}…, but it was written as {found.sha256[:SHORT]}…",
            )
        ]
        try:
            rows = {lines.read(line).offset: (number, line) for number, line in enumerate(split(body), 1)}
        except (zstandard.ZstdError, msgspec.MsgspecError) as error:
            return _Content({}, (*checks, differs(f"its content cannot be read: {error}")))
        if len(rows) != found.rows:
            checks.append(differs(f"it has {len(rows)} records, but its metadata says {found.rows}"))
        return _Content(rows, tuple(checks))

    async def _links(self, key: ChainKey, found: LakeObject) -> list[Check]:
        """Checks the links: the object before it has the hash that it names, and the object after it names its hash."""
        checks = []
        if found.previous_last_offset >= 0:
            before = await self._described(key, found.previous_last_offset)
            checks.append(
                judged(
                    before is not None and chain.follows(found, before.last_offset, before.sha256),
                    "it follows the object before it by offset and hash",
                    f"it says that it follows offset {found.previous_last_offset} with hash {found.previous_sha256[:SHORT]}…, "
                    f"which is not the object before it",
                )
            )
        else:
            checks.append(
                judged(
                    not found.previous_sha256, "it begins its chain", "it begins its chain, yet names a hash before it"
                )
            )
        after = await self._described(key, found.last_offset + 1, next_one=True)
        if after is not None:
            checks.append(
                judged(
                    chain.follows(after, found.last_offset, found.sha256),
                    "the object after it names its hash",
                    f"the object after it follows offset {after.previous_last_offset} with hash {after.previous_sha256[:SHORT]}…, "
                    "which is not this object",
                )
            )
        else:
            checks.append(noted("it is the newest of its chain: only the ledger has its hash"))
        return checks

    async def _described(self, key: ChainKey, offset: int, *, next_one: bool = False) -> LakeObject | None:
        try:
            if not next_one:
                return await chain.find_containing(self._store, key, offset)
            names = await self._store.names(chain.folder(key), after=chain.name(key, offset - 1), limit=1)
            stat = await self._store.stat(names[0]) if names else None
            return chain.parse_metadata(names[0], stat) if stat is not None else None
        except ContinuityError:
            return LakeObject("", key.topic, key.partition, 0, 0, 0, 0, "", -2, "")

    async def _large(self, line: lines.Line) -> tuple[Check, bytes | None, bytes | None]:
        """Reads the content of a record that is too large for a line, from its separate object. No chain covers that object's hash."""
        assert line.large_object is not None
        try:
            content = zstandard.ZstdDecompressor().decompressobj().decompress(await self._store.get(line.large_object))
            beside = lines.read(content)
        except (SinkRefusedError, zstandard.ZstdError, msgspec.MsgspecError) as error:
            return differs(f"its content beside the line, {line.large_object}, cannot be read: {error}"), None, None
        told = (line.topic, line.partition, line.offset, line.ts)
        check = judged(
            (beside.topic, beside.partition, beside.offset, beside.ts) == told,
            f"its content is in {line.large_object}, whose hash no object names",
            f"{line.large_object} is the content of another record",
        )
        return check, beside.key_bytes(), beside.value_bytes()


def agrees(found: ArchivedRecord) -> Check:
    """Checks that the line belongs to the partition of its object."""
    line = found.line
    assert line is not None
    return judged(
        (line.topic, line.partition) == (found.chain.topic, found.chain.partition),
        f"line {found.number:,} of {found.of:,}",
        f"line {found.number:,} is of {line.topic}/{line.partition}",
    )
