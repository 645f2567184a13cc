"""The API that OpenAI's clients speak; it makes the same jobs as the native API."""
