"""Engines, small models and recorders for tests of chats."""
