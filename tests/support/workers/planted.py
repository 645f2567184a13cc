"""The texts that the telltale worker plants: a prompt that no log line may have, and its answer."""

__all__ = ["ANSWER", "PROMPT"]

PROMPT, ANSWER = "planted-prompt", "planted-answer"
