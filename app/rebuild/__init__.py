"""An empty warehouse filled again from the lake alone, by the loader's own code, and held against the first one."""

from app.rebuild.report import RebuildError, Report
from app.rebuild.run import rebuild

__all__ = ["RebuildError", "Report", "rebuild"]
