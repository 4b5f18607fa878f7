"""The web in tests: the lookup API, the dashboard, a browser, and an HTTP proxy with faults."""
