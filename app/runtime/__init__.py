"""What every worker process needs around its Faust app: logs, health checks, garbage-collector tuning."""
