"""Clips, pictures and pipelines for tests of videos."""
