"""Streams in tests: agents in memory, workers on a real broker, and a counting app for the engine."""
