"""Tests of real worker processes."""
