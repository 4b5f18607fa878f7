"""Test support: warehouse."""
