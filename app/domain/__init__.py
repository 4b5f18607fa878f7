"""Computes the bank's derived records: SCD2 versions, transactions joined to accounts, velocity windows and alerts.
Pure: no Kafka, no I/O, no clock. May import only app.errors and libraries without I/O, such as msgspec."""
