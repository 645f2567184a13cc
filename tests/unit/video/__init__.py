"""Unit tests of worker.video."""
