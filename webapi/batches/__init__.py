"""Batches: files of requests that become background jobs of their API key."""
