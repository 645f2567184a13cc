"""One attempt at one job (a run), and the outbox, which writes the events of all runs."""
