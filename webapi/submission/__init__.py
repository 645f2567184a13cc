"""The way of a submit from its request to a job in the ledger."""
