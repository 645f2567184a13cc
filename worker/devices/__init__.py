"""Devices: the GPUs of this machine, the lease of a worker on them, and how much memory is in use."""
