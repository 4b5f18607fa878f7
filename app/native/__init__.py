"""The path of a common transaction in C: `build` compiles it, `library` loads it. Without it Python does the same, slower."""
