"""Lists dead letters, and redrives them after the cause of the rejection has been removed.

May import app.engine, app.config and app.errors.
"""
