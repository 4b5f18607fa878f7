"""The streaming core: batches, transactions, state and recovery on Faust's hooks. Knows nothing of banks."""
