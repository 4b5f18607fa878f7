"""Keeps the objects of one chain that wait to be loaded, with the chain's ledger row."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sinks.base import LakeObject, LedgerRow


@dataclass(slots=True)
class ChainBacklog:
    """The known state of one chain: its ledger row, and the later objects by the offset that each follows."""

    row: LedgerRow
    waiting: dict[int, LakeObject] = field(default_factory=dict)
    broken: str = ""
    """Why the chain is not loaded until the next sweep; empty if it is loaded."""

    def linked(self) -> Iterable[LakeObject]:
        """Yields the waiting objects that follow the ledger's last object without a gap, in order."""
        last, sha256 = self.row.last_offset, self.row.last_sha256
        while (found := self.waiting.get(last)) is not None and found.previous_sha256 == sha256:
            yield found
            last, sha256 = found.last_offset, found.sha256

    def end(self) -> LedgerRow:
        """Returns the ledger row after all linked objects are loaded."""
        row = self.row
        for found in self.linked():
            row = LedgerRow(found.last_offset, found.object, found.sha256)
        return row

    def advance(self, row: LedgerRow) -> None:
        """Set the ledger row, and drop the objects before it."""
        self.row = row
        self.waiting = {last: found for last, found in self.waiting.items() if last >= row.last_offset}
