"""Rebuilds an empty warehouse from the lake alone with the loader's code, and compares it with the first warehouse.

May import app.operations.provision, sinks, app.config and app.errors.
"""

from app.proof.rebuild.report import RebuildError, Report
from app.proof.rebuild.run import rebuild

__all__ = ["RebuildError", "Report", "rebuild"]
