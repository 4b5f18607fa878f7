"""Defines the fraud rules, their kinds (one file each in `kinds/`) and the reader of rules.toml.
May import only app.domain and app.errors.

A rule examines one counted transaction (neither declined nor reversed) and the customer's history up to its event time. It does not
examine a transaction again when an older one arrives late. Amount thresholds are in the transaction's own currency.
"""
