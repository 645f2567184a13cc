"""The fault campaign: random faults under load, then a check of every job's log."""
