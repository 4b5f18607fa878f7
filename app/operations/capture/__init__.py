"""What stands between PostgreSQL's log and Kafka: the connector and its replication slot, looked at and kept going."""
