"""The errors of provisioning the source and the topics."""

from app.errors import BankstreamError


class SourceError(BankstreamError):
    """The source database cannot be reached, or does not meet the requirements of change data capture."""


class MigrationError(SourceError):
    """A migration cannot be applied, or the table of applied migrations and the files disagree."""


class TopicsError(BankstreamError):
    """Kafka cannot be reached, or rejects the creation of a topic."""
