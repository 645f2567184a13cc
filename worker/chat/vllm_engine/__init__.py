"""The chat engine on vLLM: its event loop thread, its arguments and its output processor."""
