"""The worker process: its start, its heartbeat, its shutdown, and the reaper of what it leaves."""
