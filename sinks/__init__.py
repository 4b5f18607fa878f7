"""Where objects and rows go: one contract, several destinations."""
