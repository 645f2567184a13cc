"""Unit tests of worker.jobs."""
