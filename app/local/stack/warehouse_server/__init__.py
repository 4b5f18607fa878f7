"""Serves the Snowflake protocol on this machine: fakesnow on DuckDB, with the fixes that the project's SQL needs.

May import what app.local.stack may; it imports only app.config.
"""
