"""What each state table holds: its key and its value type."""
