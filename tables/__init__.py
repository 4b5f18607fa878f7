"""Declares the state tables: the key, the value type and the encoding of each."""
