"""The fraud rules: what a rule is, its kinds (one a file in `kinds/`), and how rules.toml is read.

A rule examines one transaction that counts (neither declined nor reversed) and the customer's history up to its instant. It does not
examine it again when an older transaction arrives late. Thresholds of amounts are in the transaction's own currency.
"""
