"""Decodes Debezium messages into typed row changes. Pure: no Kafka, no I/O, no clock.
May import only app.domain, app.errors and libraries without I/O, such as msgspec."""
