"""The bank's logic: records, SCD2, the join of transactions, velocity and rules. Pure: no Kafka, no I/O, no clock."""
