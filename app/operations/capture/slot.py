"""The replication slot that capture reads from, as PostgreSQL sees it."""

from dataclasses import dataclass

import psycopg

from app.config.settings import SourceSettings
from app.errors import BankstreamError, one_line
from app.postgres import as_reader


class SlotError(BankstreamError):
    """The slot could not be looked at."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What PostgreSQL says of a slot.

    `wal_status` is PostgreSQL's own: reserved, extended, unreserved or lost; after `lost` no reader can go on from `confirmed_lsn`.
    """

    active: bool
    wal_status: str
    confirmed_lsn: str
    """Everything before it has been read, and is in Kafka."""
    retained_bytes: int
    """Log that PostgreSQL keeps for it. Grows while nobody reads, up to max_slot_wal_keep_size: then the slot is lost."""


def read_slot(source: SourceSettings, name: str) -> Slot | None:
    """The slot, read with the reader's account; None if there is none of that name. SlotError when PostgreSQL does not answer."""
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
            f"replication slot {name} cannot be looked at as {source.reader_user}: {one_line(error)}. Check "
            "BANKSTREAM_POSTGRES_READER_*."
        ) from None
    return Slot(*row) if row is not None else None


def cure(name: str) -> str:
    """What a person does about a lost slot."""
    return (
        f"Stop Kafka Connect, drop the slot (SELECT pg_drop_replication_slot('{name}')), and start Connect: it reads all rows anew. "
        "The current state is right again after that; changes between the two reads that were overwritten are not in the history."
    )
