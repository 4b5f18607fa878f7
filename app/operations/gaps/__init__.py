"""Going on behind a gap: somebody says that what was lost is accepted and why, and it is written down before anything moves."""

from app.operations.gaps.accepting import Decision, GapError, accept_capture, accept_lake, accept_streams
from app.operations.gaps.emptied_tables import close_emptied

__all__ = ["Decision", "GapError", "accept_capture", "accept_lake", "accept_streams", "close_emptied"]
