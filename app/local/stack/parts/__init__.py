"""The parts of the local stack, one a file: how each is prepared, started and asked whether it is ready."""
