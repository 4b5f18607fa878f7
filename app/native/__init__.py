"""Processes common transactions in C: `build` compiles the library, `library` loads it. Without it Python gives the same results, slower.
May import only app.domain, app.errors, cffi and msgspec."""
