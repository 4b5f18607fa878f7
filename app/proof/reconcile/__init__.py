"""Proof that the warehouse holds what the source holds: row by row, to the cent, at one instant, while both go on."""

from app.proof.reconcile.report import Difference, Position, ReconcileError, Report, Sums, TableReport
from app.proof.reconcile.run import reconcile

__all__ = ["Difference", "Position", "ReconcileError", "Report", "Sums", "TableReport", "reconcile"]
