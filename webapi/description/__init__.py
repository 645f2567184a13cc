"""The descriptions of routes, which stand beside their views."""
