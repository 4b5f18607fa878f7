"""Proof that the warehouse holds what the source holds: row by row, to the cent, at one instant, while both go on."""

from app.proof.reconcile.report import Difference, ReconcileError, Report, SnapshotPosition, Sums, TableReport
from app.proof.reconcile.run import reconcile

__all__ = ["Difference", "ReconcileError", "Report", "SnapshotPosition", "Sums", "TableReport", "reconcile"]
