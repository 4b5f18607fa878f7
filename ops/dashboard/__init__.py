"""The analysts' dashboard: Streamlit pages over the warehouse. `data` queries, `query_cache` caches, `views` draw the pages.

May import app.web, app.local.stack.owner_watchdog, sinks, app.config and app.errors.
"""
