"""The transcript of a chat: its choices, their text, reasoning and calls of tools, as events of the job."""
