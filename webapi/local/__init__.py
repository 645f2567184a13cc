"""Runs the whole stack on this machine: `stoker up`, its processes and its state file."""
