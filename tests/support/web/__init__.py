"""Test support: web."""
