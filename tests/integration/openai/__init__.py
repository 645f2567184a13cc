"""Tests of the OpenAI-compatible API with OpenAI's own clients."""
