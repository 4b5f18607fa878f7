"""Traces a row of the warehouse back to the source's log, and checks each step against its neighbours.

May import app.operations.dbt, app.proof.reconcile, sinks, app.cdc, app.engine, app.postgres, app.config, app.domain and app.errors.
"""

from app.proof.trace.report import Check, Step, Trace
from app.proof.trace.run import TraceError, trace

__all__ = ["Check", "Step", "Trace", "TraceError", "trace"]
