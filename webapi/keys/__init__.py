"""API keys, and the keys that sign webhooks and stream tokens."""
