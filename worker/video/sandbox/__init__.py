"""Sandboxes: processes that read clients' files. They hold no secrets, and they can be killed at any time."""
