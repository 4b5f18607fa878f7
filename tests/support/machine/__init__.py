"""Test support: machine."""
