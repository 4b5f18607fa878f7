"""The lake and the warehouse in tests: sinks, landing tables, dbt, and a stand-in for Snowpipe."""
