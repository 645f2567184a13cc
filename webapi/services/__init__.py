"""The services of an API process, one of each: Redis, the feed of events, keys, token counts."""
