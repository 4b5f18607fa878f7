"""Defines the parts of the local stack, one in each file: how each is prepared, started and checked.

May import what app.local.stack may.
"""
