"""The chat engine on transformers' continuous batching, its scheduler thread and its samplers."""
