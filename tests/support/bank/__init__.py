"""Test support: bank."""
