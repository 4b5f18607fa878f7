"""Bankstream: PostgreSQL changes to SCD2 history, fraud alerts, a data lake and a warehouse, exactly once."""
