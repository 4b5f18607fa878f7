"""Reads the state of the connector's replication slot from PostgreSQL."""

from dataclasses import dataclass

import psycopg

from app.config.settings import SourceSettings
from app.errors import BankstreamError, one_line
from app.postgres import as_reader


class SlotError(BankstreamError):
    """The state of the slot could not be read."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The state of a replication slot, from pg_replication_slots.

    `wal_status` is PostgreSQL's: reserved, extended, unreserved or lost. After `lost` no reader can continue from `confirmed_lsn`.
    """

    active: bool
    wal_status: str
    confirmed_lsn: str
    """All changes before it have been read and are in Kafka."""
    retained_bytes: int
    """WAL that PostgreSQL keeps for the slot. Grows while the slot has no reader, up to max_slot_wal_keep_size; then the slot is lost."""


def read_slot(source: SourceSettings, name: str) -> Slot | None:
    """Returns the slot, read with the reader's account; None if there is no slot of that name. SlotError if PostgreSQL does not answer."""
    try:
        with as_reader(source, connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT active, wal_status, coalesce(confirmed_flush_lsn::text, ''),"
                " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint"
                " FROM pg_replication_slots WHERE slot_name = %s",
                [name],
            ).fetchone()
    except psycopg.Error as error:
        raise SlotError(
            f"replication slot {name} cannot be read as {source.reader_user}: {one_line(error)}. Check "
            "BANKSTREAM_POSTGRES_READER_*."
        ) from None
    return Slot(*row) if row is not None else None


def cure(name: str) -> str:
    """Returns the instructions for replacing a lost slot."""
    return (
        f"Stop Kafka Connect, drop the slot (SELECT pg_drop_replication_slot('{name}')), and start Connect: it reads all rows again. "
        "After that the current state is correct, but the history lacks changes that were overwritten between the two reads."
    )
