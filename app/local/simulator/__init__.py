"""Simulates a bank: writes customers, accounts and transactions to PostgreSQL at an exact rate, including labelled fraud.

May import app.proof and everything below it, but not app.local.stack; it imports only app.config, app.domain, app.errors and app.postgres.
"""
