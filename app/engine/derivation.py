"""Moves records that a restore has read into a derived table, whose layout differs from that of the changelog.

A changelog has one record for each small entry, so that entries expire by age and a commit writes little. The local store may need them
in larger pieces, so that few reads find all entries of one owner. A restore therefore puts the records into the store as they are. A
group's `derive` then reads them, and yields the changes that write the pieces and remove the records. The same happens at the first start
of a version that has the derived table on a store of a version that had not.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from app.engine.batch_unit_of_work import Change
from app.engine.store import ReadOnlyStore, Store, UnreadableEntryError

logger = logging.getLogger(__name__)

TOMBSTONE: Final = b""
"""The value of a record that deletes an entry. No entry is encoded as an empty value."""
PROGRESS_S: Final = 5.0
"""How often a long derivation is logged."""


@dataclass(frozen=True, slots=True)
class Derived:
    """One step of a derivation. Its changes are written at once, so that a killed process goes on where it was."""

    changes: list[Change]
    share: float
    """How much of the work is done after this step, from 0 to 1. An estimate, for the log."""


Derive = Callable[[ReadOnlyStore], Iterator[Derived]]
"""Reads a store and yields steps. A step should take a few milliseconds: nothing else runs on the event loop meanwhile."""


def _marking_damage(store: Store, derive: Derive) -> Iterator[Derived]:
    try:
        yield from derive(store)
    except UnreadableEntryError:
        store.mark_damaged()
        raise


async def run_derivation(name: str, store: Store, derive: Derive) -> None:
    """Runs a derivation to its end, and lets the event loop run between two steps. `name` identifies the partition in the log."""
    started = logged = time.monotonic()
    for step in _marking_damage(store, derive):
        store.write(step.changes, {})
        await asyncio.sleep(0)
        if (now := time.monotonic()) - logged >= PROGRESS_S and step.share > 0:
            left_s = (now - started) * (1 - step.share) / step.share
            logger.info("deriving the local state of %s: %.0f %%, about %.0f s left", name, 100 * step.share, left_s)
            logged = now
    if logged > started:
        logger.info("derived the local state of %s in %.0f s", name, time.monotonic() - started)
