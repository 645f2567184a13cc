"""Unit tests of worker.chat."""
