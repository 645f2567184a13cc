"""Unit tests of the command line and the client."""
