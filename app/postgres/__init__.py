"""Opens sessions with the source database, and reads its catalogue.

May import app.config, app.domain and app.errors.
"""

from app.postgres.sessions import XID_MODULUS, as_bank, as_reader, log_in, lsn_text

__all__ = ["XID_MODULUS", "as_bank", "as_reader", "log_in", "lsn_text"]
