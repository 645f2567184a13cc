"""A run: one attempt at one job, and the outbox that writes its events."""
