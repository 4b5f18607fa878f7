"""Starts a worker process around its Faust app: logging, metrics, health checks and garbage-collector tuning.

Imports app.config, app.engine and app.errors; the Faust apps only by module name.
"""
