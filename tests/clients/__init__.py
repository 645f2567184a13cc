"""Clients of others, run as their users run them."""
