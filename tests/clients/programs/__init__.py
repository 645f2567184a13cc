"""One program for each client, which runs in that client's own environment."""
