"""Prompts for the real chat models."""

__all__ = ["PROMPTS"]


PROMPTS = (
    "Write the numbers from one to forty as words.",
    "Tell me a story about a dragon.",
    "What is the capital of Japan, and what is it known for?",
    "Explain why the sky is blue.",
    "List ten animals.",
    "Write a letter to a friend about the winter.",
    "How do I bake bread?",
    "Who was Isaac Newton?",
    "Describe a train journey through the mountains.",
    "Give me five rules for a garden.",
)
