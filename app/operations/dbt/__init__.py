"""Runs dbt on the warehouse models and generates the SILVER models of captured tables.

May import sinks, app.config, app.domain and app.errors.
"""
