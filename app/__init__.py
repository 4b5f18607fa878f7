"""Bankstream: turns PostgreSQL changes into SCD2 history, fraud alerts, a data lake and a warehouse, exactly once.

The layers in pyproject.toml, and the docstring of each package, say what a package may import.
"""
