"""An empty warehouse filled again from the lake alone, by the loader's own code, and held against the first one."""

from app.proof.rebuild.report import RebuildError, Report
from app.proof.rebuild.run import rebuild

__all__ = ["RebuildError", "Report", "rebuild"]
