"""The topology of the streams worker: which topics are processed together, by which handlers, with which state."""
