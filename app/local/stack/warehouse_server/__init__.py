"""A server of the Snowflake protocol for this machine: fakesnow on DuckDB, with the fixes that our SQL needs."""
