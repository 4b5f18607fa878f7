"""Replays recorded changes through the logic of the streams worker without Kafka, for backtests and to inspect a recording's outputs.

May import app.topology, app.engine, app.config and app.errors.
"""
