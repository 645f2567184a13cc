"""The prompt of a chat: its messages and tools, rendered by the chat template of the model."""
