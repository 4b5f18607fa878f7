"""Fault tests: disturb a real bank under load, then compare its output with a recomputation. See docs/FAULTS.md."""
