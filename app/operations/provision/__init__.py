"""Creates what must exist before the first worker starts: topics, bucket, tables, connector. Every step is idempotent.

May import app.operations.capture, app.operations.dbt, app.topology, sinks, app.engine, app.postgres, app.config, app.domain and app.errors.
"""
