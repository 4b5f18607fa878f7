"""The histories of the velocity windows, as the local store keeps them: a customer's events in chunks, so that one scan of few entries
reads all of them.

The changelog has one record for each event (`tables.velocity_events`): its records expire by age, and a transaction adds a short one. This
table is derived from it: `derive` moves the records that a restore has read into chunks. The library encodes the chunks and says what
they are (app/native/chunks.c).
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Final

from app.engine.batch_unit_of_work import Change
from app.engine.derivation import TOMBSTONE, Derived
from app.engine.store import ReadOnlyStore, UnreadableEntryError
from app.engine.table import Table, View
from app.native.history import NativeHistory, Rules, without_rules
from tables.encoding import after_prefix, decode_number_key
from tables.velocity_events import EVENTS, decode_event

CUSTOMER_BYTES: Final = 8
_CHUNK_KEY_BYTES: Final = 32
_EXPIRED_BYTES: Final = 4
STEP_EVENTS: Final = 2_000
"""The number of records that one step of `derive` moves: some ten milliseconds."""
_BEHIND_ALL: Final = b"\xff" * 33

HISTORIES: Final[Table[bytes, bytes]] = Table("velocity-histories", bytes, bytes, bytes, is_logged=False)
"""Entries by encoded key; `NativeHistory` reads and writes them."""
TABLES: Final = (EVENTS, HISTORIES)


def read_history(entries: Iterable[tuple[bytes, bytes]], rules: Rules) -> NativeHistory:
    """Returns the history in a customer's entries, which are in the order of their keys. Raises UnreadableEntryError."""
    history, expired = NativeHistory(rules), 0
    for key, value in entries:
        if len(key) == CUSTOMER_BYTES and len(value) == _EXPIRED_BYTES:
            expired = int.from_bytes(value, "little")
        elif len(key) == _CHUNK_KEY_BYTES and history.load(key, value, expired):
            expired = 0
        else:
            raise UnreadableEntryError(
                f"the stored history of customer {_customer_id(key)} cannot be read: the next start rebuilds the state of this partition "
                "from the changelogs"
            )
    return history


def histories(table: View[bytes, bytes]) -> Iterator[tuple[int, NativeHistory]]:
    """Yields the number and the history of each customer of a partition. They can be changed, but not asked about rules' amounts."""
    for prefix, entries in groupby(table.scan(), _customer):
        yield _customer_id(prefix), read_history(entries, without_rules())


def derive(store: ReadOnlyStore) -> Iterator[Derived]:
    """Moves the records of the changelog that are in the store into the histories, by customer. See `app.engine.derivation`."""
    newest = next(store.scan_back(EVENTS.name, b"", _BEHIND_ALL), None)
    if newest is None:
        return
    rules, changes, last = without_rules(), list[Change](), _customer_id(newest[0])
    first: int | None = None
    for prefix, records in groupby(store.scan(EVENTS.name), _customer):
        history = read_history(store.scan(HISTORIES.name, prefix, after_prefix(prefix)), rules)
        customer_id = _customer_id(prefix)
        first = customer_id if first is None else first
        while some := list(islice(records, STEP_EVENTS)):
            for key, value in some:
                _apply(history, key, value)
                changes.append((EVENTS.name, key, None))
            changes += [(HISTORIES.name, key, value) for key, value in history.changes(customer_id)]
            if len(changes) >= STEP_EVENTS:
                yield Derived(changes, (customer_id - first) / max(1, last - first))
                changes = []
    if changes:
        yield Derived(changes, 1.0)


def _customer(record: tuple[bytes, bytes]) -> bytes:
    return record[0][:CUSTOMER_BYTES]


def _customer_id(key: bytes) -> int:
    return decode_number_key(key[:CUSTOMER_BYTES])[0]


def _apply(history: NativeHistory, key: bytes, value: bytes) -> None:
    if value != TOMBSTONE:
        history.put(decode_event(key, EVENTS.decode(value))[1])
        return
    _, time_us, account_id, transaction_id = decode_number_key(key)
    known = history.find(account_id, transaction_id)
    if (
        known is not None and known.time_us == time_us
    ):  # else its time was corrected, and this deletes the record of the old time
        history.remove(known)
