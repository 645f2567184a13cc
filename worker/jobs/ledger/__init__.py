"""The ledger in Redis: records, claims, event logs, queues, workers and models."""
