"""The stream processor: batches, transactions, state and recovery on Faust's hooks. Contains no banking logic."""
