"""State in Redis: job records, claims, event logs, queues, workers and models."""
