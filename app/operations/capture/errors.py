"""The error of the connector."""

from app.errors import BankstreamError


class ConnectorError(BankstreamError):
    """Kafka Connect rejects the connector, or the connector does not stream."""
