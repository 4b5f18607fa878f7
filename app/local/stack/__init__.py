"""Runs every part of the system on this machine, installed from package registries, without Docker.

May import app.proof, app.operations, app.streams, app.lake, app.warehouse and everything below them; not app.local.simulator.
"""
