"""The analysts' dashboard: Streamlit pages over the warehouse. `data` asks, `desk` remembers, `views` show."""
