"""Tests of the repository itself: imports, documentation, Compose file, benchmarks."""
