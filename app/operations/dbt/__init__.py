"""Runs dbt on the warehouse models and reports what passed."""
