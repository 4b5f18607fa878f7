"""A simulated bank: customers, accounts and transactions written to PostgreSQL at an exact rate, with labelled fraud among them."""
