"""The local stack: every part of the system on this machine, from package registries, without Docker."""
