"""Reads the settings from the environment, the captured tables and the rules file, and defines the topic catalogue.

Imports app.domain and app.errors only.
"""
