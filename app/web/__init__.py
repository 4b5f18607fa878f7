"""The lookup API of the streams worker: committed state, versions and alerts over HTTP, for those who have a token."""
