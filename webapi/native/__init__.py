"""The routes of Stoker's own API: jobs, their events, queues, workers and health."""
