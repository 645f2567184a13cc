"""The command line `stoker`."""
