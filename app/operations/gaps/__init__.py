"""Accepts gaps: an operator accepts a loss and gives the reason, and the gap is recorded before any position moves past it.

May import app.operations.doctor, sinks, app.cdc, app.engine, app.config, app.domain and app.errors.
"""

from app.operations.gaps.accepting import Decision, GapError, accept_capture, accept_lake, accept_streams
from app.operations.gaps.emptied_tables import close_emptied

__all__ = ["Decision", "GapError", "accept_capture", "accept_lake", "accept_streams", "close_emptied"]
