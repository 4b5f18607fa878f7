"""Test support: streams."""
