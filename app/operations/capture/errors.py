"""The errors of the connector: what is wrong, and what to do about it."""

from app.errors import BankstreamError


class ConnectorError(BankstreamError):
    """Kafka Connect refuses the connector, or the connector does not stream."""
