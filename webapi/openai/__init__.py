"""The API that OpenAI's clients speak, over the same jobs as the native one."""
