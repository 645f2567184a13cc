"""Clients that other projects publish, run as their users run them."""
