"""Stores objects in the lake and loads rows into the warehouse. Each destination implements the contracts of sinks/base.py.

May import app.native, app.engine, app.postgres, app.config and app.errors, except the configuration of topics, captured tables and rules.
May not import tables, app.cdc and app.domain.
"""
