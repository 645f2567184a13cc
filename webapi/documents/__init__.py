"""The JSON documents of the API's responses and of its events."""
