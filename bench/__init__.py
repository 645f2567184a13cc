"""Benchmarks of the stack. docs/benchmarks.md lists the commands and their figures."""
