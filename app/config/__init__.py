"""Settings from the environment, the captured tables, the rules file and the topic catalogue. Imports app.domain and app.errors only."""
