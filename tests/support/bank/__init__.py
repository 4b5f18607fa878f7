"""Source data for tests: simulated and recorded banks, Debezium records, and hostile input."""
