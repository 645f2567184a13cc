"""The JSON documents that leave the API."""
