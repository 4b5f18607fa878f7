"""Errors of the simulated bank."""

from app.errors import BankstreamError


class SimulationError(BankstreamError):
    """The simulated bank cannot continue."""
