"""Debezium bytes to typed changes. Pure: no Kafka, no I/O, no clock."""
