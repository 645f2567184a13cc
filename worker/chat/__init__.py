"""Chat: engines that run many conversations at once, a token each in turn."""
