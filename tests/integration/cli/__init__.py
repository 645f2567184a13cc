"""Tests of the command line and of `stoker up`."""
