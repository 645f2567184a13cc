"""The HTTP API of Stoker, its command line, client and webhook sender. Nothing here imports torch."""
