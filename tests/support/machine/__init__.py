"""The environment of tests: the local stack, its clients, tools, users, and waiting with a deadline."""
