"""Webhooks: the worker that delivers the final state of jobs, and the addresses it may connect to."""
