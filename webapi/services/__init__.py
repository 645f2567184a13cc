"""The services of an API process, one instance of each: the feed of events, API keys, token counts."""
