"""Authentication: API keys, stream tokens, and the rule for public addresses."""
