"""Runs dbt on the warehouse models and generates the SILVER models of captured tables.

May import sinks, app.postgres, app.config, app.domain and app.errors.
"""
