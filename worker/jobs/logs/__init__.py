"""The logs of all processes: one line for each event, as text or as JSON, without secrets."""
