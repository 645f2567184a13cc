"""The worker process: its start, heartbeat and shutdown, and the reaper of processes it leaves behind."""
