"""The chat engine on transformers' continuous batching."""
