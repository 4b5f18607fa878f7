"""What waits to be loaded of one chain: the ledger's row, and the objects behind it as far as they are known."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sinks.base import LakeObject, LedgerRow


@dataclass(slots=True)
class ChainBacklog:
    """What is known of one chain: where its ledger row is, and the objects behind it, by the offset that each follows."""

    row: LedgerRow
    waiting: dict[int, LakeObject] = field(default_factory=dict)
    broken: str = ""
    """Why nothing of it is loaded until the next sweep."""

    def linked(self) -> Iterable[LakeObject]:
        """The waiting objects that follow the ledger's, in order."""
        last, sha256 = self.row.last_offset, self.row.last_sha256
        while (found := self.waiting.get(last)) is not None and found.previous_sha256 == sha256:
            yield found
            last, sha256 = found.last_offset, found.sha256

    def end(self) -> LedgerRow:
        """Where the ledger will be when all that is linked is loaded."""
        row = self.row
        for found in self.linked():
            row = LedgerRow(found.last_offset, found.object, found.sha256)
        return row

    def moved(self, row: LedgerRow) -> None:
        """The ledger is here now."""
        self.row = row
        self.waiting = {last: found for last, found in self.waiting.items() if last >= row.last_offset}
