"""Chat: the runner of chat jobs, and engines that generate the answers of many chats at once."""
