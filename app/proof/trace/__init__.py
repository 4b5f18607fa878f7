"""The way of a row of the warehouse back to the source's log, each step of it checked against its neighbours."""

from app.proof.trace.report import Check, Step, Trace
from app.proof.trace.run import TraceError, trace

__all__ = ["Check", "Step", "Trace", "TraceError", "trace"]
