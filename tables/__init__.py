"""Declares the state tables: the key, the value type and the encoding of each.

May import app.engine, app.domain and the other layers below agents, but not sinks.
"""
