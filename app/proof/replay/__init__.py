"""Replaying recorded changes through the very logic of the streams worker, without Kafka: for backtests, and to see what a file gives."""
