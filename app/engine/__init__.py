"""Implements exactly-once stream processing on Faust's hooks: batches, transactions, state and recovery.

Contains no banking logic. May import app.config.settings and app.errors only.
"""
