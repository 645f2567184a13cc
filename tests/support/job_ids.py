"""Job ids that are easy to tell apart."""

__all__ = ["A", "B"]

A, B = "a" * 32, "b" * 32
