"""The errors of provisioning: what is wrong, and what to do about it."""

from app.errors import BankstreamError


class SourceError(BankstreamError):
    """The source database cannot be reached, or is not what change data capture needs."""


class MigrationError(SourceError):
    """A migration cannot be applied, or the ledger and the files disagree."""


class TopicsError(BankstreamError):
    """Kafka cannot be reached, or does not create a topic."""
