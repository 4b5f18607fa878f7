"""Making everything that must exist before the first worker starts: topics, bucket, tables, connector. All of it idempotent."""
