"""The handlers of the streams worker, one topic or one rule a file.

They import app.domain, app.cdc, app.native, app.config.topics, tables, and the engine's unit of work and handler types. They do not import
Faust.
"""
