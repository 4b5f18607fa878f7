"""Implements the warehouse with Snowpipe Streaming: sends the lake's objects as rows, over one channel for each chain.

The channel's offset token is the chain's position. The service commits rows and token together, so a channel is the ledger of its chain.
The ledger table follows the channels and is never ahead of the rows. `reconcile`, `trace` and dbt read it. It also has the position of
chains without a channel: Snowflake removes channels that were idle for long, and a chain that was loaded by COPY has none yet. A chain
continues at the further of the two positions.

A load moves each chain separately, so after a failure some chains may have moved; the next read of the ledger shows which.
The reasons for this design are in docs/decisions/0015-snowpipe-streaming.md.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec
import zstandard

from app.config.settings import WarehouseSettings
from app.errors import ContinuityError
from sinks import chain, metrics
from sinks.base import (
    ChainKey,
    LakeObject,
    LedgerConflictError,
    LedgerMove,
    LedgerRow,
    LoadStep,
    ObjectStore,
    SinkRefusedError,
    SinkUnavailableError,
)
from sinks.lines import read
from sinks.segment import digest, lines
from sinks.snowpipe_client import MAX_REQUEST_BYTES, ChannelStatus, SnowpipeClient
from sinks.sql import identifier

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0
"""Longest pause between two checks whether rows are committed."""
_TOKEN: Final = re.compile(r"(-1|\d+):(\d*):([0-9a-f]*):(-1|\d+)")


class LedgerTable(Protocol):
    """The ledger table."""

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every committed row."""
        ...

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Add rows for the chains that have none."""
        ...

    async def advance(self, moves: Sequence[LedgerMove]) -> None:
        """Move the rows that are at the start of their move; the others stay."""
        ...

    async def close(self) -> None:
        """Close the session."""
        ...


class ChannelPosition(NamedTuple):
    """A channel's position: all objects up to the last one in `row`, and the next object up to the offset `through`."""

    row: LedgerRow
    through: int

    def token(self) -> str:
        """Returns the position as an offset token. It has the object's start offset instead of its name.

        >>> ChannelPosition(LedgerRow(), -1).token()
        '-1:::-1'
        """
        start = chain.parse(self.row.last_object)[1] if self.row.last_object else ""
        return f"{self.row.last_offset}:{start}:{self.row.last_sha256}:{self.through}"


def parse_token(key: ChainKey, token: str | None) -> ChannelPosition:
    """Returns the position in a channel's offset token. Raises ContinuityError if this program did not write the token."""
    if token is None:
        return ChannelPosition(LedgerRow(), -1)
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ContinuityError(
            f"the channel of {key.topic}/{key.partition} has the offset token {token[:200]!r}, which this program did not write: another "
            f"program streams into it. Stop that program, and drop the channel {channel_name(key)}: its position is in the ledger."
        )
    name = chain.name(key, int(match[2])) if match[2] else ""
    return ChannelPosition(LedgerRow(int(match[1]), name, match[3]), int(match[4]))


def channel_name(key: ChainKey) -> str:
    """Returns the name of a chain's channel. A recreated topic has another chain and so another channel.

    >>> channel_name(ChainKey("bank.alerts", "5f0c", 3))
    'bank.alerts.5f0c.3'
    """
    return f"{key.topic}.{key.topic_id}.{key.partition}"


def pipe_name(landing: str) -> str:
    """Returns the name of the pipe into a landing table, which ops/snowflake/07_snowpipe_streaming.sql creates."""
    return f"{identifier(landing)}_STREAM"


@dataclass(slots=True)
class _Channel:
    """A channel that this loader has open, and the position up to which it has sent rows."""

    pipe: str
    name: str
    continuation: str
    sent: ChannelPosition

    def must_be_at(self, row: LedgerRow) -> None:
        """Raises LedgerConflictError if the channel is at another position."""
        if self.sent.row != row:
            raise LedgerConflictError(f"the channel {self.name} is at {self.sent.row}, not at {row}")


class StreamingWarehouse:
    """A warehouse (see sinks/base.py) whose loads are atomic for each chain, but not across chains."""

    def __init__(
        self,
        client: SnowpipeClient,
        ledger: LedgerTable,
        store: ObjectStore,
        landing: Mapping[str, str],
        settings: WarehouseSettings,
    ) -> None:
        self._client, self._ledger, self._store = client, ledger, store
        self._landing, self._settings = landing, settings
        self._ours: dict[ChainKey, _Channel] = {}
        self._written: dict[ChainKey, LedgerRow] = {}
        """The rows of the ledger table."""
        self._reached: dict[ChainKey, LedgerRow] = {}
        """The committed positions of the channels, which the ledger table has to follow."""
        self._next_writing = 0.0

    async def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns the position of every chain, from its channel or from the table, whichever is further. Updates the table."""
        self._ours.clear()  # called after a failure: sent rows may have been dropped
        self._written = await self._ledger.ledger()
        landing = {key: self._landing[key.topic] for key in self._written if key.topic in self._landing}
        self._reached = {
            key: parse_token(key, status.last_committed_offset_token).row
            for key, status in (await self._statuses(landing)).items()
            if not status.errors
        }
        await self._write()
        return self._written | {key: _further(row, self._written[key]) for key, row in self._reached.items()}

    async def begin(self, chains: Sequence[ChainKey]) -> None:
        """Add rows for the chains that have none."""
        await self._ledger.begin(chains)
        for key in chains:
            self._written.setdefault(key, LedgerRow())

    async def load(self, steps: Sequence[LoadStep]) -> None:
        """Send the steps in parallel, wait until all are committed, and update the ledger table if its interval has passed."""
        outcomes = await asyncio.gather(*(self._send(step) for step in steps), return_exceptions=True)
        failures = [found for found in outcomes if isinstance(found, BaseException)]
        sent = {step.chain: step for step, found in zip(steps, outcomes, strict=True) if found is None}
        try:
            await self._committed(sent)
        except (LedgerConflictError, SinkRefusedError, SinkUnavailableError) as error:
            failures.append(error)
        clock = asyncio.get_running_loop().time
        if clock() >= self._next_writing:
            await self._write()
            self._next_writing = clock() + self._settings.streaming_ledger_interval_ms / 1000
        if failures:
            raise min(failures, key=_urgency)

    async def close(self) -> None:
        """Update the ledger table and close. If the update fails, the next owner does it."""
        try:
            await self._write()
        except (SinkUnavailableError, SinkRefusedError) as error:
            logger.info("the ledger stays behind the channels until a loader starts: %s", error)
        await self._client.close()
        await self._ledger.close()

    async def _send(self, step: LoadStep) -> None:
        key = step.chain
        try:
            channel = self._ours[key] = self._ours.get(key) or await self._opened(step)
            channel.must_be_at(step.previous)
            for found in step.objects:
                for target, rows in _requests(found, await self._lines(found), channel.sent, self._request_bytes):
                    channel.continuation = await self._client.append(
                        channel.pipe, channel.name, channel.continuation, target.token(), rows
                    )
                    channel.sent = target
        except BaseException:
            self._ours.pop(key, None)
            raise

    async def _opened(self, step: LoadStep) -> _Channel:
        key, pipe, name = step.chain, pipe_name(step.landing), channel_name(step.chain)
        opened = await self._client.open(pipe, name)
        at = parse_token(key, opened.channel_status.last_committed_offset_token)
        written = self._written.get(key, LedgerRow())
        if at.row.last_offset < written.last_offset:
            at = ChannelPosition(written, written.last_offset)
            logger.info("channel %s continues at the ledger's offset %d", name, written.last_offset)
            opened = await self._client.open(pipe, name, at.token())
        channel = _Channel(pipe, name, opened.next_continuation_token, at)
        _nothing_left_out(channel, opened.channel_status)
        return channel

    async def _committed(self, steps: Mapping[ChainKey, LoadStep]) -> None:
        """Wait until every channel has committed all rows sent."""
        waiting, pause = dict(steps), FIRST_PAUSE_S
        try:
            async with asyncio.timeout(self._settings.streaming_commit_timeout_s):
                while waiting:
                    for key, status in (
                        await self._statuses({key: step.landing for key, step in waiting.items()})
                    ).items():
                        channel = self._ours[key]
                        _nothing_left_out(channel, status)
                        if (
                            parse_token(key, status.last_committed_offset_token).row.last_offset
                            >= channel.sent.row.last_offset
                        ):
                            self._reached[key] = channel.sent.row
                            del waiting[key]
                    if waiting:
                        await asyncio.sleep(pause)
                        pause = min(LONGEST_PAUSE_S, pause * 1.5)
        except TimeoutError:
            raise SinkUnavailableError(
                f"rows of {len(waiting)} channels were sent and not committed for {self._settings.streaming_commit_timeout_s} s"
            ) from None
        finally:
            for key in waiting:
                self._ours.pop(key, None)

    async def _statuses(self, landing: Mapping[ChainKey, str]) -> dict[ChainKey, ChannelStatus]:
        """Returns the status of the chains' existing channels. `landing` has the table of each chain."""
        by_pipe: dict[str, dict[str, ChainKey]] = {}
        for key, table in landing.items():
            by_pipe.setdefault(pipe_name(table), {})[channel_name(key)] = key
        answers = await asyncio.gather(*(self._client.statuses(pipe, list(names)) for pipe, names in by_pipe.items()))
        return {
            found: status
            for names, answer in zip(by_pipe.values(), answers, strict=True)
            for name, status in answer.items()
            if (found := _named(names, name)) is not None
        }

    async def _write(self) -> None:
        """Update the ledger table to the channels. A row that another loader has moved meanwhile is left as it is."""
        moves = [
            LedgerMove(key, self._written[key], row)
            for key, row in self._reached.items()
            if key in self._written and row.last_offset > self._written[key].last_offset
        ]
        if moves:
            await self._ledger.advance(moves)
            self._written |= {move.chain: move.end for move in moves}

    async def _lines(self, found: LakeObject) -> list[bytes]:
        """Returns the lines of an object. Raises SinkRefusedError if its content differs from what was announced."""
        body = await self._store.get(found.object)
        if digest(body) != found.sha256:
            raise SinkRefusedError(f"{found.object} has other content than announced: its sha256 is {digest(body)}")
        try:
            rows = await asyncio.to_thread(lambda: list(lines(body)))
        except zstandard.ZstdError as error:
            raise SinkRefusedError(f"{found.object} cannot be decompressed: {error}") from None
        if len(rows) != found.rows:
            raise SinkRefusedError(f"{found.object} has {len(rows)} rows, {found.rows} were announced")
        return rows

    @property
    def _request_bytes(self) -> int:
        return min(self._settings.streaming_request_bytes, MAX_REQUEST_BYTES)


def _requests(
    found: LakeObject, rows: Iterable[bytes], at: ChannelPosition, limit: int
) -> Iterator[tuple[ChannelPosition, bytes]]:
    """Yields the requests for an object's rows after a position, each with the position that it reaches."""
    end = ChannelPosition(LedgerRow(found.last_offset, found.object, found.sha256), found.last_offset)
    taken: list[bytes] = []
    size, through = 0, at.through
    for line in rows:
        try:
            offset = read(line).offset
        except msgspec.MsgspecError as error:
            raise SinkRefusedError(f"{found.object} has an invalid line: {error}") from None
        if offset <= at.through:
            continue
        row = b'{"record":%s}\n' % line.rstrip(b"\n")
        if taken and size + len(row) > limit:
            yield ChannelPosition(at.row, through), b"".join(taken)
            taken, size = [], 0
        taken.append(row)
        size, through = size + len(row), offset
    if size > MAX_REQUEST_BYTES:
        raise SinkRefusedError(f"{found.object} has a row of {size} bytes, more than the limit of a request")
    if not taken:
        raise SinkRefusedError(f"{found.object} has no row after offset {at.through}, the position of its channel")
    yield end, b"".join(taken)


def _further(one: LedgerRow, other: LedgerRow) -> LedgerRow:
    return one if one.last_offset >= other.last_offset else other


def _named(names: Mapping[str, ChainKey], name: str) -> ChainKey | None:
    """Returns the chain of a channel. The service's channel names are not case-sensitive."""
    return names.get(name) or {known.upper(): key for known, key in names.items()}.get(name.upper())


def _nothing_left_out(channel: _Channel, status: ChannelStatus) -> None:
    """Raises SinkRefusedError if rows were left out. The service only counts rows that its pipe cannot insert, which is a loss."""
    if status.errors:
        metrics.STREAMING_LEFT_OUT.set(status.errors)
        raise SinkRefusedError(
            f"Snowpipe Streaming has left out {status.errors} rows of channel {channel.name}: {status.last_error_message}. The ledger "
            "stays before them. Fix the pipe, delete the table's rows of this partition after the ledger's offset, and drop the "
            "channel: then these rows are sent again."
        )


def _urgency(error: BaseException) -> int:
    """Returns the rank of an error; a load with several errors raises the lowest. Unexpected errors come first, then refusals."""
    order = (SinkRefusedError, SinkUnavailableError, LedgerConflictError)
    return next((number for number, kind in enumerate(order, 1) if isinstance(error, kind)), 0)
