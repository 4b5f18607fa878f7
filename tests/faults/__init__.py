"""The fault machine: a real bank under load, disturbed in every way of the matrix, then held to a recomputation. See docs/FAULTS.md."""
