"""Commands that verify a deployment: reconcile, trace, rebuild and replay.

May import app.operations and everything below it.
"""
