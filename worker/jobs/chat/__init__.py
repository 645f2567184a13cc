"""The fields of a chat job, and what they mean: messages, sampling parameters, tools, structured answers."""
