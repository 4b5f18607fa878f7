"""The analysts' dashboard: Streamlit pages over the warehouse. `data` asks, `query_cache` remembers, `views` show."""
