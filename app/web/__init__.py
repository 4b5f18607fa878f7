"""Serves the lookup API of the streams worker: committed state, versions and alerts over HTTP, for clients with a token.

May import agents and everything below (tables, sinks, app.cdc, app.engine, app.postgres, app.config, app.domain), but not app.topology.
"""
