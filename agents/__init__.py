"""Stream processors, one agent a file."""
