"""Proves that the warehouse has the source's rows: row by row, to the cent, at one instant, under load.

May import sinks, app.cdc, app.engine, app.postgres, app.config, app.domain and app.errors.
"""

from app.proof.reconcile.report import Difference, ReconcileError, Report, SnapshotPosition, Sums, TableReport
from app.proof.reconcile.run import reconcile

__all__ = ["Difference", "ReconcileError", "Report", "SnapshotPosition", "Sums", "TableReport", "reconcile"]
