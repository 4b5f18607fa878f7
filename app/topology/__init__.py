"""Defines the topology of the streams worker: the partition groups with their topics, handlers and state tables.

Imports agents, tables, app.config, app.domain, app.engine and app.native.
"""
