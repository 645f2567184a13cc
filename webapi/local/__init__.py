"""The local stack: `stoker up`, its processes and its state file."""
