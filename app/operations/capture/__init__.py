"""Watches the Debezium connector and its replication slot, and restarts the connector when it fails.

May import app.postgres, app.config and app.errors.
"""
